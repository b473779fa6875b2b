"""Placement of the ordinary instances on hosts."""

from collections.abc import Collection, Mapping, Sequence


def _order(
    hosts: Sequence[str], standby: Sequence[str], first_port: int, per_host: int, demand: Sequence[str] = ()
) -> list[tuple[str, int]]:
    """Where the instances go, the first one first. Each host on demand is filled before the next, and emptied first."""
    pools = (hosts, standby, *([host] for host in demand))
    return [(host, first_port + turn) for pool in pools for turn in range(per_host) for host in pool]


def place(
    capacity: int,
    hosts: Sequence[str],
    standby: Sequence[str] = (),
    first_port: int = 3000,
    per_host: int = 4,
    demand: Sequence[str] = (),
) -> dict[str, list[int]]:
    """Spread `capacity` instances over the hosts and return {host: [ports]}, each host present, idle ones with [].

    Round robin over `hosts` until each has `per_host` instances, then likewise over `standby`, then one host of
    `demand` after the other. The place of the n-th instance does not depend on the capacity, so growing by one adds
    one instance and moves none; nor does one more host at the end of `demand`.

    Raises:
        ValueError: the capacity is below 1 or beyond the hosts' maximum, or a host is named twice.
    """
    names = [*hosts, *standby, *demand]
    if len(set(names)) != len(names):
        raise ValueError(f"a host is named twice among hosts and standby: {', '.join(names)}")
    if per_host < 1:
        raise ValueError(f"per_host is {per_host}: allow at least 1 instance on a host")
    if not 1024 <= first_port <= 65536 - per_host:
        raise ValueError(f"first_port is {first_port}: choose a port between 1024 and {65536 - per_host}")
    maximum = len(names) * per_host
    if capacity < 1:
        raise ValueError(f"capacity is {capacity}: at least 1 instance must run")
    if capacity > maximum:
        raise ValueError(
            f"capacity is {capacity}, but {len(names)} hosts hold at most {maximum} instances ({per_host} each): "
            "lower the capacity, or add a host"
        )
    placed: dict[str, list[int]] = {name: [] for name in names}
    for host, port in _order(hosts, standby, first_port, per_host, demand)[:capacity]:
        placed[host].append(port)
    return placed


def place_around(
    capacity: int,
    previous: int,
    failed: Collection[str],
    hosts: Sequence[str],
    standby: Sequence[str] = (),
    first_port: int = 3000,
    per_host: int = 4,
    demand: Sequence[str] = (),
) -> dict[str, list[int]]:
    """Like place, but new instances go to hosts that haven't failed, as many of the capacity as they hold.

    A failed host keeps the ports that it had at the capacity `previous`, uncounted: the load balancers find out whether
    they still answer. No other host loses an instance that place would give it.

    Raises:
        ValueError: as place does, and if every host has failed.
    """
    placed = place(capacity, hosts, standby, first_port, per_host, demand)
    if not failed:
        return placed
    good = [host for host in hosts if host not in failed]
    reserve = [host for host in standby if host not in failed]
    made = [host for host in demand if host not in failed]
    holds = len(good + reserve + made) * per_host
    if not holds:
        raise ValueError(f"every application host has failed: {', '.join(failed)}")
    before = place(min(max(previous, 1), len(placed) * per_host), hosts, standby, first_port, per_host, demand)
    around = place(min(capacity, holds), good, reserve, first_port, per_host, made)
    return {host: around.get(host, before[host]) for host in placed}


def covering(
    running: Mapping[str, Collection[int]],
    hosts: Sequence[str],
    standby: Sequence[str] = (),
    first_port: int = 3000,
    per_host: int = 4,
    demand: Sequence[str] = (),
) -> int:
    """The lowest capacity whose placement holds every running port; 0 when none runs."""
    order = _order(hosts, standby, first_port, per_host, demand)
    return max((place for place, (host, port) in enumerate(order, 1) if port in running.get(host, ())), default=0)
