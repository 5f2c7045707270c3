"""Server-sent events out of bytes, as https://html.spec.whatwg.org/multipage/server-sent-events.html has them."""


class Splitter:
    """Takes a stream's bytes, however they were cut, and gives the data of whole events. Comments and other fields are
    skipped. Lines end with LF or CRLF; a CR alone ends none, since no server of this API sends it.
    """

    def __init__(self) -> None:
        self._rest = b""  # of a line whose end has not come
        self._data: list[bytes] = []  # of an event whose end has not come

    def feed(self, received: bytes) -> list[bytes]:
        """The data of those events that end in what has been received."""
        *lines, self._rest = (self._rest + received).split(b"\n")
        found = []
        for line in lines:
            field = line.removesuffix(b"\r")
            if field.startswith(b"data:"):
                self._data.append(field.removeprefix(b"data:").removeprefix(b" "))
            elif not field:
                found += self._event()
        return found

    def close(self) -> list[bytes]:
        """What the stream left without an empty line behind it when it ended: servers forget that line."""
        return self.feed(b"\n\n")

    def _event(self) -> list[bytes]:
        data, self._data = b"\n".join(self._data), []
        return [data] if data.strip() else []
