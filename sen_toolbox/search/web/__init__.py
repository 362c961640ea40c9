"""The web page of ``sen-search serve``: one page, Python's own server, nothing from elsewhere."""
