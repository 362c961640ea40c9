# Search in a folder of crops, on a CPU, as whoever calls it:
#   docker build -f docker/search.Dockerfile -t sen-search .
#   mkdir -p index
#   OPTIONS="--user $(id -u):$(id -g) -v $PWD/crops:/crops -v $PWD/index:/index"
#   docker run $OPTIONS sen-search index /crops --index /index
#   docker run $OPTIONS sen-search query "a red coat" --index /index
#   docker run $OPTIONS --network host sen-search serve --index /index
# The page of `serve` answers the machine it runs on alone, hence the host's network. To keep
# downloaded models: `mkdir -p cache`, and `-v $PWD/cache:/home/searcher/.cache` in OPTIONS.
FROM python:3.12-slim AS build
WORKDIR /sen
COPY . .
RUN pip wheel --no-cache-dir --no-deps -w /wheels .

FROM python:3.12-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /wheels /wheels
# torch for CPUs alone is a fifth as large: --build-arg PIP_EXTRA_INDEX_URL=ADDRESS with the address
# that torch's own page gives for it.
ARG PIP_EXTRA_INDEX_URL=
RUN pip install --no-cache-dir "$(ls /wheels/*.whl)[onnx]" && rm -r /wheels
# Nothing here needs to be root; whoever it is may keep a downloaded model.
ENV HOME=/home/searcher
RUN mkdir --mode 1777 $HOME
USER nobody
WORKDIR $HOME
ENTRYPOINT ["sen-search"]
CMD ["--help"]
