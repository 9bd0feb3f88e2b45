# The service of one index. CPU:   docker build --tag mycelia .
# CUDA:  docker build --tag mycelia:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126 .
FROM python:3.12-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# First what changes least: the wheels of torch bring CUDA's own libraries.
RUN pip install --index-url "$TORCH_INDEX" torch torchvision
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY configs configs
COPY indexer indexer
COPY retrieval retrieval
COPY segmentation segmentation
RUN pip install '.[serve,faiss-cpu,qdrant,offline,coco,heif]'

FROM python:3.12-slim
RUN useradd --create-home --uid 10001 mycelia && mkdir /index && chown mycelia /index
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 HF_HOME=/home/mycelia/.cache/huggingface
USER mycelia
VOLUME ["/index", "/home/mycelia/.cache"]
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
# Keys come from the environment: MYCELIA_KEYS=read:DIGEST,write:DIGEST
ENTRYPOINT ["mycelia", "serve"]
CMD ["/index", "--host", "0.0.0.0", "--port", "8000", "--log-json"]
