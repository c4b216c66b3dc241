"""Settings of the commands that are told what becomes of a run."""

from __future__ import annotations

from pipeline.settings.section import Line, Positive, SettingsSection


class HookSettings(SettingsSection):
    """Commands of yours that the master runs, with the run's status as JSON on their input.

    Each is a line for sh, run in the run folder on the master's host. TANDEM_EVENT is end, break or incumbent.
    """

    on_end: Line | None = None
    """When the run has finished or was stopped."""
    on_break: Line | None = None
    """When the run is broken: the status has the cause as `message`."""
    on_incumbent: Line | None = None
    """When there is a new best configuration on the largest budget that has results; of several in short succession,
    the last."""
    timeout_s: Positive = 60.0
    """A command that takes longer is ended. The search waits for none of them."""

    @property
    def are_any(self) -> bool:
        """Whether there is a command."""
        return any((self.on_end, self.on_break, self.on_incumbent))
