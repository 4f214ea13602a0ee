"""The valves: what an administrator sets on the page of the host, one class per host."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)
from pydantic.functional_validators import ModelWrapValidatorHandler

_SECRETS = frozenset({"influxdb_token"})
_SWITCH_WORDS = {"true": "on", "1": "on", "yes": "on", "false": "off", "0": "off", "no": "off"}


def _as_switch(value: object) -> object:
    word = str(value).strip().lower()
    return _SWITCH_WORDS.get(word, word)


Switch = Annotated[Literal["environment", "on", "off"], BeforeValidator(_as_switch)]


class LenientValves(BaseModel):
    """Valves that can always be built: a wrong value takes its default, `problems` names it."""

    _problems: tuple[str, ...] = PrivateAttr(())

    @property
    def problems(self) -> tuple[str, ...]:
        return self._problems

    @model_validator(mode="wrap")
    @classmethod
    def _keep_what_is_usable(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        # The host builds the valves before every call: raising here would cost the user's answer.
        given = dict(values) if isinstance(values, dict) else {}
        given = {name: value for name, value in given.items() if not _is_empty(value)}
        problems: dict[str, str] = {}
        while True:
            try:
                valves = handler(given)
            except ValidationError as error:
                for found in error.errors(include_url=False, include_input=False):
                    name = str(found["loc"][0]) if found["loc"] else ""
                    if name in given:
                        value = _shown(name, given.pop(name))
                        problems[name] = f"{name}: {found['msg']} (got {value}), default used"
            else:
                valves._problems = tuple(problems[name] for name in sorted(problems))
                return valves


def _shown(name: str, value: object) -> str:
    """Return a wrong value for the administrator, cut short; never a secret."""
    if name in _SECRETS:
        return "a secret"
    is_plain = isinstance(value, str | float) or (isinstance(value, int) and abs(value) < 10**39)
    return repr(str(value)[:40]) if is_plain else type(value).__name__


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


class UsageValves(LenientValves):
    """The valves that both hosts have; an empty one means "from the environment".

    Secrets are left out of `repr`.
    """

    priority: int = Field(
        default=0,
        ge=-1_000_000,
        le=1_000_000,
        title="Priority",
        description="Filters run in this order, smallest first.",
    )
    client_org: str = Field(
        default="",
        title="Client organization",
        description="Whom this host is billed to when no assignment says otherwise. "
        "Empty: USAGE_CLIENT_ORG, else `unassigned`.",
    )
    spool_dir: str = Field(
        default="",
        title="Spool folder",
        description="Local folder of the durable queue, never a network drive. "
        "Empty: USAGE_SPOOL_DIR, else a folder beside the host's own data.",
    )
    spool_max_mb: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        title="Spool limit in MB",
        description="When the queue is this large, events are refused and counted. "
        "Empty: USAGE_SPOOL_MAX_MB, else 1024.",
    )
    max_cost_usd: float = Field(
        default=10_000,
        gt=0,
        le=1_000_000,
        title="Quarantine above (USD)",
        description="A single amount above this waits in quarantine until a person looks at it.",
    )
    extra_connections: list[str] = Field(
        default_factory=list,
        title="Other OpenRouter connections",
        description="Tags of connections that bill through OpenRouter although their models do "
        "not show it (a proxy in front, for instance), separated by commas.",
    )
    answer_wait_seconds: int = Field(
        default=3600,
        ge=1,
        le=86_400,
        title="Wait for an answer (s)",
        description="An answer whose end is not shown in this time (stopped, hung up) is listed "
        "as unmetered; should it end later, it is booked and no longer listed (what a program "
        "calls inside Open WebUI stays: let this be longer than an answer can take).",
    )
    user_directory: bool = Field(
        default=True,
        title="Keep names of users",
        description="Store name and e-mail beside the user id, in a directory that can be "
        "erased. Usage events hold the id only.",
    )
    deliver_from: Literal["environment", "host", "sidecar"] = Field(
        default="environment",
        title="Who delivers",
        description="`host`: this process writes to InfluxDB itself; `sidecar`: it only queues, "
        "the sidecar delivers. `environment`: USAGE_DELIVER_FROM, else `host`.",
    )
    influxdb_first_enabled: Switch = Field(
        default="environment",
        title="Write to InfluxDB",
        description="`environment`: INFLUXDB_FIRST_ENABLED, else off. When off, the sidecar "
        "stores the events itself.",
    )
    influxdb_url: str = Field(default="", title="InfluxDB URL", description="Empty: INFLUXDB_URL.")
    influxdb_token: str = Field(
        default="",
        repr=False,
        title="InfluxDB token",
        description="Empty (recommended): INFLUXDB_TOKEN, or the file INFLUXDB_TOKEN_FILE names. "
        "The page of Pipelines shows this in clear to anyone who can reach it.",
        json_schema_extra={"input": {"type": "password"}},
    )
    influxdb_org: str = Field(
        default="", title="InfluxDB organization", description="Empty: INFLUXDB_ORG."
    )
    influxdb_bucket: str = Field(
        default="", title="InfluxDB bucket", description="Empty: INFLUXDB_BUCKET."
    )
    influxdb_measurement: str = Field(
        default="",
        title="InfluxDB measurement",
        description="Empty: INFLUXDB_MEASUREMENT, else `usage_events`.",
    )
    influxdb_write_timeout: int | None = Field(
        default=None,
        ge=1,
        le=600_000,
        title="InfluxDB write timeout (ms)",
        description="Empty: INFLUXDB_WRITE_TIMEOUT, else 2000.",
    )
    influxdb_batch_size: int | None = Field(
        default=None,
        ge=1,
        le=5000,
        title="InfluxDB batch size",
        description="Rows per write. Empty: INFLUXDB_BATCH_SIZE, else 5000.",
    )
    influxdb_flush_interval: int | None = Field(
        default=None,
        ge=1,
        le=600_000,
        title="InfluxDB flush interval (ms)",
        description="Empty: INFLUXDB_FLUSH_INTERVAL, else 1000.",
    )


class FunctionValves(UsageValves):
    """The valves of the Function filter inside Open WebUI."""

    quiet_seconds: int = Field(
        default=120,
        ge=1,
        le=3600,
        title="Quiet time (s)",
        description="An answer without usage this long after its last word (stopped, broken off) "
        "is booked as pending.",
    )


class FunctionUserValves(LenientValves):
    """What each user may set for the Function filter."""

    show_cost: bool = Field(
        default=False,
        title="Show what an answer cost",
        description="A line under each answer with its cost at OpenRouter and its tokens.",
    )


class PipelineValves(UsageValves):
    """The valves of the filter in a Pipelines server; saving replaces the whole set."""

    pipelines: list[str] = Field(
        default_factory=lambda: ["*"],
        title="Models",
        description="`*` for all models, or exact model ids separated by commas. Takes effect "
        "when Open WebUI loads its model list again.",
    )
    add_user: bool = Field(
        default=True,
        title="Tell OpenRouter the user id",
        description="Adds `user` to requests to OpenRouter models, background tasks included, "
        "unless the caller sent one: OpenRouter's own records then tell people apart.",
    )
    add_session_id: bool = Field(
        default=False,
        title="Tell OpenRouter the chat id",
        description="Adds `session_id`. It makes OpenRouter keep to one provider, which changes "
        "routing and so cost.",
    )
    add_trace: bool = Field(
        default=False,
        title="Send chat, message and task along",
        description="Adds `trace`, so that OpenRouter's webhook can name them.",
    )
