"""Names of containers: which are allowed, who has one, and a readable one for those who did not ask.

A name belongs to one container from the moment it is reserved, before the container exists on disk, until it is
released, so two requests at once cannot both get it.
"""

from __future__ import annotations

import random
import re

from windlass.errors import Conflict, InvalidParameter

_ALLOWED = "[a-zA-Z0-9][a-zA-Z0-9_.-]"
_NAME = re.compile(_ALLOWED + "+")

_ADJECTIVES = (
    "able agile amber ample apt ardent astute balmy blithe bold brave bright brisk calm candid careful cheerful "
    "civil clear clever cosy crisp curious daring deft eager earnest easy elated exact fair fearless fine firm fleet "
    "fond frank fresh gallant gentle glad golden graceful grand hale handy happy hardy hearty humble jolly jovial keen "
    "kind lively loyal lucid lucky mellow merry mighty mindful modest neat nimble noble patient placid plucky polite "
    "prompt proud quick quiet ready robust sage serene sharp silent sincere skilful sly smart snug sober solid spry "
    "steady stoic sturdy subtle sunny swift tender tidy trim trusty upbeat vivid warm wary wise witty zealous"
)
_SURNAMES = (
    "abel amdahl archimedes babbage backus banach barbosa bardeen bell bernoulli bohr boole born bose cantor carson "
    "cauchy cerf chandrasekhar church codd conway copernicus cori crick curie dahl darwin descartes dijkstra dirac "
    "einstein engelbart erdos euclid euler faraday fermat fermi feynman fibonacci floyd fourier franklin galileo "
    "galois gauss germain godel goldberg hamilton hamming hawking heisenberg herschel hertz hilbert hoare hopper "
    "hubble huffman hypatia jacobi jemison johnson joliot kahan kay kepler kernighan khorana kilby kirch knuth "
    "kovalevskaya lagrange lamarr lamport laplace lavoisier leavitt leibniz liskov lovelace lumiere maxwell mcclintock "
    "mccarthy meitner mendel mendeleev milner minsky mirzakhani moore nash neumann newton nightingale nobel noether "
    "ohm oppenheimer pascal pasteur pauli perlman planck poincare postel ptolemy raman ramanujan riemann ritchie "
    "rutherford sagan shannon stallman swirles tesla thompson torvalds tu turing vaughan volta wiles wilson "
    "wing wirth wozniak wright wu yalow yonath"
)


def check_name(name: str) -> None:
    """Raises `InvalidParameter` unless `name` (one leading slash is no matter) may name a container."""
    if not _NAME.fullmatch(name.removeprefix("/")):
        raise InvalidParameter(f"Invalid container name ({name}), only {_ALLOWED} are allowed")


def _random_name(attempt: int) -> str:
    # S311: a name is no secret.
    name = f"{random.choice(_ADJECTIVES.split())}_{random.choice(_SURNAMES.split())}"  # noqa: S311
    return f"{name}{random.randrange(10)}" if attempt else name  # noqa: S311


class NameRegistry:
    """Which container has which name. Names are kept without the API's leading slash."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._owners)

    def owner(self, name: str) -> str | None:
        """The ID of the container called `name`, with or without a leading slash."""
        return self._owners.get(name.removeprefix("/"))

    def reserve(self, name: str, container_id: str) -> str:
        """Give `name` to a container; returns it without the slash. Raises `InvalidParameter`, `Conflict`."""
        check_name(name)
        bare = name.removeprefix("/")
        owner = self._owners.setdefault(bare, container_id)
        if owner != container_id:
            raise Conflict(
                f'Conflict. The container name "/{bare}" is already in use by container "{owner}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )
        return bare

    def reserve_random(self, container_id: str) -> str:
        """Give a container a readable name that nobody has, or, if luck fails, the short form of its ID."""
        for attempt in range(6):
            name = _random_name(attempt)
            if name not in self._owners:
                self._owners[name] = container_id
                return name
        return self.reserve(container_id[:12], container_id)

    def release(self, name: str, container_id: str) -> None:
        """Take a name back, if it is this container's."""
        bare = name.removeprefix("/")
        if self._owners.get(bare) == container_id:
            del self._owners[bare]
