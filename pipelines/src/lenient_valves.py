"""Valves that can always be built, whatever a host has saved for them."""

from typing import Any, Self

from pydantic import BaseModel, PrivateAttr, ValidationError, model_validator
from pydantic.functional_validators import ModelWrapValidatorHandler

_SECRETS = frozenset({"influxdb_token"})


class LenientValves(BaseModel):
    """Valves that can always be built: a wrong value takes its default, `problems` names it."""

    _problems: tuple[str, ...] = PrivateAttr(())

    @property
    def problems(self) -> tuple[str, ...]:
        """Return a sentence for every value that could not be used."""
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
    """Show a wrong value to the administrator, cut short; never a secret."""
    if name in _SECRETS:
        return "a secret"
    is_plain = isinstance(value, str | float) or (isinstance(value, int) and abs(value) < 10**39)
    return repr(str(value)[:40]) if is_plain else type(value).__name__


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())
