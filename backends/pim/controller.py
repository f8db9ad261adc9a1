"""The controllers of all channels and the host that feeds them, compiled: when each command is issued.

The host sends one instruction a cycle. A channel's controller issues its requests in order, at most one command a
cycle; before a request it opens the row it needs and changes the mode if it must. A command is issued in the first
cycle that every constraint allows, so there is no loop over cycles: each issue is a maximum over the constraints
that hold the command back. How requests queue, when the end is seen and how refresh cuts in follow the controllers
of the open simulators (AiM on Ramulator 2; PIMSimulator on DRAMSim2), see docs/pim.md.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from fettle.backends.pim.tables import NONE

WAIT = -2
"""Number of the instruction with which the host waits for all channels."""

_NEVER = -(1 << 40)
_CLOSED = -1
_MIXED = -2


@njit(cache=True)
def _earliest(command, bank, group, starts, before, level, cycles, channel_last, group_last, bank_last):  # type: ignore[no-untyped-def]
    """First cycle all constraints on a command allow."""
    first = np.int64(0)
    for i in range(starts[command], starts[command + 1]):
        if level[i] == 0:
            last = channel_last[before[i]]
        elif level[i] == 1:
            last = group_last[group, before[i]]
        else:
            last = bank_last[bank, before[i]]
        first = max(first, last + cycles[i])
    return first


@njit(cache=True)
def issue(  # type: ignore[no-untyped-def]
    operations, banks, rows, columns, counts, holds, members,
    starts, before, level, cycles, stride, whole, activate, precharge, opens, closes, buffer, mode, latency, blocking,
    windows, window_members, settings, log,
):  # fmt: skip
    """Cycles until the host has seen the end, commands issued ``[kinds, commands]``, and how many there were.

    The first line of arguments is a program (commands by number, ``members[n, k]``: channels of kind k take part), the
    next two are :class:`Rules`; ``settings`` are unpacked below; ``log`` takes as many issued commands as it has rows.
    """
    bank_count, group_count, buffers, depth = settings[0], settings[1], settings[2], settings[3]
    eager, mod, refresh_command, close_all, close_one = settings[4], settings[5], settings[6], settings[7], settings[8]
    interval, first_refresh, slack = settings[9], settings[10], settings[11]
    per_group = bank_count // group_count
    commands, kinds = len(whole), members.shape[1]

    channel_last = np.full((kinds, commands), _NEVER)
    group_last = np.full((kinds, group_count, commands), _NEVER)
    bank_last = np.full((kinds, bank_count, commands), _NEVER)
    open_row = np.full((kinds, buffers, bank_count), _CLOSED)
    pending = np.zeros((kinds, bank_count), np.bool_)
    register_mode = np.zeros(kinds, np.int64)
    now = np.zeros(kinds, np.int64)
    finished = np.zeros(kinds, np.int64)
    due = np.full(kinds, first_refresh)
    queue = np.zeros((kinds, depth), np.int64)
    queued = np.zeros(kinds, np.int64)
    most = 1
    for w in range(len(windows)):
        most = max(most, windows[w, 0])
    recent = np.full((kinds, len(windows), most), _NEVER)
    issued = np.zeros((kinds, commands), np.int64)
    used = 0
    arrival = np.int64(1)

    for n in range(len(operations)):
        target = operations[n]
        following = arrival + 1
        if target == NONE:
            arrival += counts[n]
            continue
        if target == WAIT:
            for k in range(kinds):
                following = max(following, max(arrival, now[k] + 1) + 2, finished[k] + 2)
            arrival = following
            continue
        for k in range(kinds):
            if not members[n, k]:
                continue
            bank, row = banks[n], rows[n]
            group = max(bank, 0) // per_group
            if eager:
                for b in range(bank_count):
                    pending[k, b] = open_row[k, 0, b] != _CLOSED and (holds[n] >> b) & 1 == 0
            i = 0
            while i < counts[n]:
                entered = max(arrival, queue[k, queued[k] % depth] + 1)
                following = max(following, entered + 1)
                while True:
                    # What the request needs next: its row opened or closed, or itself.
                    step = target
                    if precharge[target] != NONE:
                        state = open_row[k, buffer[target], max(bank, 0)]
                        if whole[target]:
                            for b in range(1, bank_count):
                                if open_row[k, buffer[target], b] != state:
                                    state = _MIXED
                        if opens[target]:
                            if state != _CLOSED:
                                step = precharge[target]
                        elif state == _CLOSED:
                            step = activate[target]
                        elif state != row:
                            step = precharge[target]
                    first = _earliest(
                        step, bank, group, starts, before, level, cycles,
                        channel_last[k], group_last[k], bank_last[k],
                    )  # fmt: skip
                    time = max(now[k] + 1, entered, first)
                    for w in range(len(windows)):
                        if window_members[w, step]:
                            time = max(time, recent[k, w, 0] + windows[w, 1])
                    place = bank

                    if interval > 0 and time >= due[k] and refresh_command != NONE:
                        hit = not (opens[step] or closes[step])
                        if not (hit and time < due[k] + slack * interval):
                            # Close everything, then refresh; the request starts over.
                            step, place = refresh_command, -1
                            for b in range(bank_count):
                                for f in range(buffers):
                                    if open_row[k, f, b] != _CLOSED:
                                        all_at_once = close_all != NONE and buffer[close_all] == f
                                        step = close_all if all_at_once else close_one
                                        place = -1 if all_at_once else b
                            first = _earliest(
                                step, place, max(place, 0) // per_group, starts, before, level, cycles,
                                channel_last[k], group_last[k], bank_last[k],
                            )  # fmt: skip
                            time = max(now[k] + 1, due[k], first)
                            if register_mode[k] == 1:
                                step, place = mod, -1  # rows close and refresh in the array's mode
                            elif step == refresh_command:
                                due[k] += interval
                    elif eager:
                        # Rows nobody wants are closed in cycles the request leaves free.
                        for b in range(bank_count):
                            if pending[k, b] and place == bank:
                                first = _earliest(
                                    close_one, b, b // per_group, starts, before, level, cycles,
                                    channel_last[k], group_last[k], bank_last[k],
                                )  # fmt: skip
                                if max(first, now[k] + 1) < time:
                                    step, place, time = close_one, b, max(first, now[k] + 1)

                    # The mode changes when the first step could be taken; that step then waits for the change.
                    change = mode[target] not in (NONE, register_mode[k])
                    if change and step in (target, activate[target], precharge[target]):
                        step, place = mod, -1

                    now[k] = time
                    issued[k, step] += 1
                    if used < len(log):
                        log[used, 0], log[used, 1], log[used, 2] = time, step, k
                        log[used, 3] = place
                        log[used, 4] = row if step not in (mod, refresh_command) else -1
                        log[used, 5] = columns[n] + i if step == target else -1
                    used += 1
                    channel_last[k, step] = time
                    if not whole[step]:
                        group_last[k, place // per_group, step] = time
                        bank_last[k, place, step] = time
                    for w in range(len(windows)):
                        if window_members[w, step]:
                            for j in range(windows[w, 0] - 1):
                                recent[k, w, j] = recent[k, w, j + 1]
                            recent[k, w, windows[w, 0] - 1] = time
                    if step == mod:
                        register_mode[k] = 1 - register_mode[k]
                    if opens[step] or closes[step]:
                        value = row if opens[step] else _CLOSED
                        if whole[step]:
                            for b in range(bank_count):
                                open_row[k, buffer[step], b] = value
                                pending[k, b] = False
                        else:
                            open_row[k, buffer[step], place] = value
                            pending[k, place] = False
                    if step == target:
                        queue[k, queued[k] % depth] = time
                        queued[k] += 1
                        if blocking[step]:
                            following = max(following, time + latency[step] + 1)
                        else:
                            finished[k] = max(finished[k], time + latency[step])
                        i += 1
                        break
                # The columns that follow in the open row wait for nothing but the one before.
                calm = not (blocking[target] or closes[target] or pending[k].any())
                while calm and i < counts[n]:
                    entered = max(arrival, queue[k, queued[k] % depth] + 1)
                    time = max(now[k] + stride[target], entered)
                    if interval > 0 and time >= due[k]:
                        break
                    following = max(following, entered + 1)
                    now[k] = time
                    issued[k, target] += 1
                    if used < len(log):
                        log[used, 0], log[used, 1], log[used, 2] = time, target, k
                        log[used, 3], log[used, 4], log[used, 5] = bank, row, columns[n] + i
                    used += 1
                    channel_last[k, target] = time
                    if not whole[target]:
                        group_last[k, group, target] = time
                        bank_last[k, bank, target] = time
                    queue[k, queued[k] % depth] = time
                    queued[k] += 1
                    finished[k] = max(finished[k], time + latency[target])
                    i += 1
        arrival = following

    end = np.int64(0)
    for k in range(kinds):
        seen = max(arrival, now[k] + 1)
        end = max(end, seen + 1, finished[k] + 1)
    return end, issued, used
