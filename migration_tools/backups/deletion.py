"""Deletion: whether a store can take an import out again, asked before the import begins."""

from migration_tools.ledger import IMPORT_PATIENCE_MS
from shared.errors import MigrationError, Misconfigured
from shared.event_store.configured import influx_needed
from shared.event_store.influx.influxql import Statements
from shared.event_store.influx.query import InfluxQuery
from shared.settings import Settings

# No import is called this: deleting it changes nothing on a server that can delete.
_NOBODY = "import:probe-of-a-deletion"


def check_deletion(settings: Settings) -> None:
    """Try a deletion that finds nothing. Raises MigrationError when the store cannot delete.

    The embedded store always can; InfluxDB 3 cannot, and a token may not be allowed to.
    """
    if not settings.influxdb_first_enabled:
        return
    influx = influx_needed(settings, IMPORT_PATIENCE_MS)
    query, statements = InfluxQuery(influx), Statements(influx.measurement)
    try:
        if not query.delete(statements.source_predicate(_NOBODY)):
            query.ask(statements.delete_source(_NOBODY), write=True)
    except Misconfigured as error:
        raise MigrationError(
            f"this InfluxDB cannot delete, so an import could never be rolled back: {error}"
        ) from error
    finally:
        query.close()
