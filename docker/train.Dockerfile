# Training and evaluation on NVIDIA GPUs:
#   docker build -f docker/train.Dockerfile -t sen-train .
#   docker run --gpus all --shm-size 16g -v $PWD/data:/sen/data -v $PWD/work_dirs:/sen/work_dirs \
#       sen-train tools/train.py configs/sen/sen_vitb_cuhk.py
# The wheels of torch bring CUDA along, so the image needs only Python and the host's driver.
FROM python:3.12-slim

RUN apt-get update \
    && apt-get install -y --no-install-recommends git libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /sen
COPY . .
RUN pip install --no-cache-dir -e '.[onnx]' \
    && python -m nltk.downloader -d /usr/local/share/nltk_data \
        punkt_tab averaged_perceptron_tagger_eng

# Configs below projects/ import their modules from here.
ENV PYTHONPATH=/sen
ENTRYPOINT ["python"]
CMD ["tools/train.py", "--help"]
