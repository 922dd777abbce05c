# The service with the embedded model:
#   docker build -t zeroshot . && docker run -p 8000:8000 -e ZEROSHOT_API_KEYS=NAME=sha256:... zeroshot
# Keys are made by `zeroshot keys new NAME`; -e ZEROSHOT_ALLOW_ANONYMOUS=true does without.
FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /opt/zeroshot
ENV PATH=/opt/zeroshot/bin:$PATH
# torch first: a layer that rarely changes. TORCH_INDEX_URL=<PyTorch's index of CPU builds> makes it a tenth of the size.
ARG TORCH_INDEX_URL=
RUN pip install --no-cache-dir torch torchvision ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"}
COPY pyproject.toml README.md LICENSE ./
COPY prompts prompts
COPY examples/photos examples/photos
COPY zeroshot zeroshot
RUN pip install --no-cache-dir .

FROM python:3.11-slim
COPY --from=build /opt/zeroshot /opt/zeroshot
RUN useradd --create-home --uid 1000 zeroshot
USER zeroshot
ENV PATH=/opt/zeroshot/bin:$PATH ZEROSHOT_HOST=0.0.0.0 ZEROSHOT_HOME=/home/zeroshot/data ZEROSHOT_LOG_FORMAT=json
EXPOSE 8000
HEALTHCHECK --start-period=20s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=5)"]
CMD ["zeroshot", "serve"]
