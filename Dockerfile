# The studio in a container; see docs/container.md.
#
#   docker build -t hallo4 .
#   docker run --rm -p 127.0.0.1:8431:8431 -v "$PWD/videos:/videos" hallo4
#
# For an NVIDIA GPU: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128, and run with --gpus all.

FROM python:3.12-slim-bookworm AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
# PyTorch alone first: it is by far the largest layer, and changes only with its pin.
COPY constraints.txt ./
RUN python -m venv /opt/hallo4 \
    && /opt/hallo4/bin/pip install -c constraints.txt --index-url "$TORCH_INDEX" torch
COPY pyproject.toml README.md LICENSE ./
COPY hallo4 hallo4
RUN /opt/hallo4/bin/pip install -c constraints.txt '.[studio,pose,released]'

FROM python:3.12-slim-bookworm
RUN useradd --create-home --uid 1000 maker \
    && install -d -o maker -g maker /videos /weights /cache/hallo4/models
COPY --from=build /opt/hallo4 /opt/hallo4
# Weights from elsewhere and converted models are not part of the image; mount them at /weights and
# /cache/hallo4/models.
ENV PATH=/opt/hallo4/bin:$PATH HALLO4_WEIGHTS=/weights XDG_CACHE_HOME=/cache PYTHONUNBUFFERED=1
USER 1000
VOLUME ["/videos"]
EXPOSE 8431
# Ctrl-C is how a studio ends: workers stop at their next step, and the next start goes on there.
STOPSIGNAL SIGINT
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8431/', timeout=4)"]
ENTRYPOINT ["hallo4"]
CMD ["studio", "/videos", "--host", "0.0.0.0", "--no-browser"]
