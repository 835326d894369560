# An image that mounts volumes: Debian, Python, fuse3, and an ordinary user.
#
#   docker build -t flyteplugins-vol .
#   docker run --rm -it --device /dev/fuse --cap-add SYS_ADMIN --security-opt apparmor=unconfined flyteplugins-vol
#
# The device and the capability are what FUSE needs in any container. /etc/mtab is there for fusermount3, which does not
# unmount for an ordinary user without it; not every container runtime makes it.

ARG PYTHON_VERSION=3.12

FROM python:${PYTHON_VERSION}-slim-bookworm AS build
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY flyteplugins_vol ./flyteplugins_vol
ARG EXTRAS=""
RUN python -m venv /opt/volume \
    && /opt/volume/bin/pip install --no-cache-dir ".${EXTRAS:+[$EXTRAS]}"

FROM python:${PYTHON_VERSION}-slim-bookworm
RUN apt-get update \
    && apt-get install --yes --no-install-recommends fuse3 \
    && rm -rf /var/lib/apt/lists/* \
    && ln -sf /proc/self/mounts /etc/mtab \
    && useradd --create-home --uid 1000 volume
COPY --from=build /opt/volume /opt/volume
ENV PATH=/opt/volume/bin:$PATH
USER volume
WORKDIR /home/volume
CMD ["python"]
