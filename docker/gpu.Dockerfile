# Chiasm with vLLM for NVIDIA GPUs. CUDA comes with torch's packages, the driver with NVIDIA's container toolkit. From the
# repository's root:
#   docker build -f docker/gpu.Dockerfile -t chiasm:0.1.0-gpu .
FROM python:3.11.11-slim-bookworm AS build
ENV UV_LINK_MODE=copy UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1
RUN pip install --no-cache-dir uv==0.13.9 && uv venv --python /usr/local/bin/python3.11 /opt/chiasm
WORKDIR /src
COPY docker/gpu.lock docker/
RUN uv pip install --python /opt/chiasm/bin/python -r docker/gpu.lock
COPY pyproject.toml README.md LICENSE ./
COPY chiasm chiasm
COPY encoder encoder
COPY decoder decoder
COPY scheduler scheduler
COPY bench bench
RUN uv pip install --python /opt/chiasm/bin/python --no-deps .

FROM python:3.11.11-slim-bookworm
# Triton compiles launchers of kernels when an engine starts. The versions are the base's: a mirror keeps none but the
# latest.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ libnuma1 && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 1000 chiasm && useradd --uid 1000 --gid 1000 --create-home chiasm
COPY --from=build /opt/chiasm /opt/chiasm
ENV PATH=/opt/chiasm/bin:$PATH HOME=/home/chiasm VLLM_NO_USAGE_STATS=1 RAY_USAGE_STATS_ENABLED=0 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /home/chiasm
USER 1000:1000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=600s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
CMD ["chiasm", "serve", "--host", "0.0.0.0"]
