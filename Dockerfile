# The sidecar: `python -m scheduler`. Runs as 10001:10001 on a read-only root; what it writes is in
# /data (databases) and /spool (the queue that it shares with the hosts).
FROM python:3.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    USAGE_BIND=0.0.0.0 \
    USAGE_PORT=8080 \
    USAGE_SPOOL_DIR=/spool \
    USAGE_STORE_PATH=/data/usage-events.sqlite3 \
    USAGE_DATABASE_URL=sqlite:////data/usage-summaries.sqlite3 \
    USAGE_BACKUP_DIR=/data/backups

WORKDIR /app
COPY requirements.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps -r requirements.txt \
    && groupadd --gid 10001 usage \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin usage \
    && install -d -o 10001 -g 10001 -m 0750 /data /tokens \
    && install -d -o 10001 -g 10001 -m 2770 /spool

COPY CHANGELOG.md ./
COPY shared ./shared
COPY scheduler ./scheduler
COPY migration_tools ./migration_tools

USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health', timeout=4)"]
ENTRYPOINT ["python", "-m", "scheduler"]
