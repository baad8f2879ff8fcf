"""How large each stream may become, as settings.

A size that is not set stays what it is: what `streams.json` declares for a new stream, and whatever the
broker's operator has made of it since. One that is set is applied at the next start, or refused aloud.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from switchyard.services.settings.values import MOST, Table

Size = Annotated[int, Field(gt=0, le=MOST)] | None


def _of(stream: str, declared: str) -> Any:
    return Field(
        default=None,
        description=f"Bytes of the stream {stream}; {declared} unless the broker has another",
    )


class StreamSizes(Table):
    """One setting for each stream that has a limit of its own; a test holds them against `streams.json`."""

    jobs_bytes: Size = _of("JOBS", "8GiB")
    progress_bytes: Size = _of("PROGRESS", "256MiB")
    previews_bytes: Size = _of("PREVIEWS", "128MiB")
    logs_bytes: Size = _of("LOGS", "1GiB")
    kv_workers_bytes: Size = _of("KV_workers", "128MiB")
    kv_capabilities_bytes: Size = _of("KV_capabilities", "256MiB")
    kv_lanes_bytes: Size = _of("KV_lanes", "256MiB")
    quarantine_bytes: Size = _of("QUARANTINE", "32MiB")
    ledger_bytes: Size = _of("LEDGER", "4GiB")
    kv_limits_bytes: Size = _of("KV_limits", "64MiB")
    kv_controls_bytes: Size = _of("KV_controls", "64MiB")
    kv_kinds_bytes: Size = _of("KV_kinds", "64MiB")
    kv_servers_bytes: Size = _of("KV_servers", "64MiB")
    kv_server_states_bytes: Size = _of("KV_server_states", "64MiB")
    kv_models_bytes: Size = _of("KV_models", "32MiB")
    kv_model_fetches_bytes: Size = _of("KV_model_fetches", "16MiB")
    kv_schedules_bytes: Size = _of("KV_schedules", "1GiB")
    kv_keys_bytes: Size = _of("KV_keys", "64MiB")
    kv_tickets_bytes: Size = _of("KV_tickets", "64MiB")
    kv_claims_bytes: Size = _of("KV_claims", "256MiB")
    kv_octopoid_bytes: Size = _of("KV_octopoid", "1GiB")
    kv_waits_bytes: Size = _of("KV_waits", "256MiB")
    kv_backends_bytes: Size = _of("KV_backends", "128MiB")
    kv_workflows_bytes: Size = _of("KV_workflows", "1GiB")
    kv_batches_bytes: Size = _of("KV_batches", "1GiB")
    kv_batch_refusals_bytes: Size = _of("KV_batch_refusals", "1GiB")
    kv_uploads_bytes: Size = _of("KV_uploads", "1GiB")
    kv_prices_bytes: Size = _of("KV_prices", "16MiB")
    kv_quotas_bytes: Size = _of("KV_quotas", "64MiB")
    kv_file_keys_bytes: Size = _of("KV_file_keys", "1GiB")
    kv_erasures_bytes: Size = _of("KV_erasures", "256MiB")
    obj_files_bytes: Size = _of("OBJ_files", "32GiB")

    def stream_bytes(self) -> dict[str, int]:
        """The sizes that are set, by stream."""
        return {
            stream_of(name): size
            for name in StreamSizes.model_fields
            if (size := getattr(self, name)) is not None
        }


def stream_of(setting: str) -> str:
    """The stream whose size a setting is."""
    name = setting.removesuffix("_bytes")
    prefix, _, rest = name.partition("_")
    return f"{prefix.upper()}_{rest}" if rest else name.upper()
