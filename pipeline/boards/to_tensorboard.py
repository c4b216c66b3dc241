"""TensorBoard's event files: a folder per evaluation, its curve as scalars, its configuration in the HParams plugin."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from google.protobuf.struct_pb2 import Value
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from pipeline.boards.trainings import BoardEntry

_STATUS = {"finished": api_pb2.STATUS_SUCCESS, "crashed": api_pb2.STATUS_FAILURE, "running": api_pb2.STATUS_RUNNING}


def open_board(name: str, folder: Path) -> Callable[[BoardEntry], None]:
    """What writes an entry under `folder`/`name`."""
    return partial(_write, folder / name)


def _write(folder: Path, entry: BoardEntry) -> None:
    writer = EventFileWriter(str(folder / entry.path))
    began, ended = entry.began, entry.ended
    start = SessionStartInfo(group_name=entry.name, start_time_secs=began)
    for name, value in entry.configuration.items():
        start.hparams[name].CopyFrom(_value(value))
    told = HParamsPluginData(session_start_info=start)
    writer.add_event(Event(wall_time=began, summary=_told(metadata.SESSION_START_INFO_TAG, told)))
    for point in entry.curve:
        writer.add_event(Event(wall_time=point.time, step=point.step, summary=_scalars(point.values.items())))
    last = entry.curve[-1].step if entry.curve else 0
    final = ((f"final/{metric}", value) for metric, value in entry.metrics.items())
    writer.add_event(Event(wall_time=ended, step=last, summary=_scalars(final)))
    end = SessionEndInfo(status=_STATUS.get(entry.status, api_pb2.STATUS_UNKNOWN), end_time_secs=ended)
    told = HParamsPluginData(session_end_info=end)
    writer.add_event(Event(wall_time=ended, summary=_told(metadata.SESSION_END_INFO_TAG, told)))
    writer.close()


def _scalars(values: Iterable[tuple[str, float]]) -> Summary:
    return Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values])


def _value(value: int | float | str | bool) -> Value:
    """A hyperparameter's value, as the plugin's messages hold it."""
    if isinstance(value, bool):
        return Value(bool_value=value)
    return Value(string_value=value) if isinstance(value, str) else Value(number_value=value)


def _told(tag: str, data: HParamsPluginData) -> Summary:
    """What the HParams plugin is told. (Its own functions for it need TensorFlow.)"""
    data.version = metadata.PLUGIN_DATA_VERSION
    kind = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME, content=data.SerializeToString())
    return Summary(value=[Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=kind))])
