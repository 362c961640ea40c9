"""The web page of ``sen-search serve``: one page, a server of its own, nothing from elsewhere."""
