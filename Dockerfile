# syntax=docker/dockerfile:1
FROM python:3.11-slim AS build
WORKDIR /src
COPY requirements.lock pyproject.toml README.md LICENSE streams.json ./
# The hashes are checked here; the image below takes only what Switchyard itself needs from these wheels.
RUN pip wheel --no-cache-dir --require-hashes -r requirements.lock -w /wheels \
    && pip install --no-cache-dir --no-index --find-links /wheels hatchling
COPY events events
COPY projections projections
COPY services services
COPY switchyard switchyard
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation -w /wheels .

FROM python:3.11-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends tesseract-ocr tesseract-ocr-eng \
    && rm -rf /var/lib/apt/lists/*
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels switchyard
RUN useradd --create-home switchyard && install -d -o switchyard -g switchyard -m 0700 /data
USER switchyard
WORKDIR /data
ENV PYTHONUNBUFFERED=1 SWITCHYARD_DATA_DIR=/data
VOLUME /data
ENTRYPOINT ["switchyard"]
