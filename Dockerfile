# syntax=docker/dockerfile:1
FROM python:3.11-slim AS libraries
WORKDIR /src
COPY requirements.lock .
# The hashes are checked here; the image below takes only what Switchyard itself needs from these wheels.
RUN pip wheel --no-cache-dir --require-hashes -r requirements.lock -w /wheels

FROM libraries AS build
RUN pip install --no-cache-dir --no-index --find-links /wheels hatchling
COPY pyproject.toml README.md LICENSE streams.json ./
COPY events events
COPY projections projections
COPY services services
COPY switchyard switchyard
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation -w /dist .

# `make release` puts the wheel that it has built here: --build-context wheel=FOLDER.
FROM scratch AS wheel
COPY --from=build /dist/*.whl /

FROM python:3.11-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends tesseract-ocr tesseract-ocr-eng \
    && rm -rf /var/lib/apt/lists/*
RUN --mount=type=bind,from=libraries,source=/wheels,target=/wheels \
    --mount=type=bind,from=wheel,source=/,target=/wheel \
    pip install --no-cache-dir --no-index --find-links /wheels --find-links /wheel 'switchyard-jobs[all]'
RUN useradd --create-home switchyard && install -d -o switchyard -g switchyard -m 0700 /data
USER switchyard
WORKDIR /data
ENV PYTHONUNBUFFERED=1 SWITCHYARD_DATA_DIR=/data
VOLUME /data
ENTRYPOINT ["switchyard"]
