"""The one place that opens a MongoDB client, and that says a driver's errors in our words.

Every call through such a client is bounded: finding a server, connecting, and each operation
together with its repetitions have their time. Writes are acknowledged by a majority and are in
the journal. What is said about a server names its host, never a user's secret.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

from bson.codec_options import DatetimeConversion
from bson.errors import InvalidBSON
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError
from pymongo import MongoClient
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.uri_parser import split_options

from spooler.errors import BackendUnavailable, ConfigError, Scope
from spooler.storage.sqooler.mongodb.address import MongoAddress

Document: TypeAlias = dict[str, Any]
Client: TypeAlias = MongoClient[Document]

#: What the server says of a login, and of what a user may not do.
_LOGIN, _RIGHTS = {18, 8000}, {13}
_LATE = "did not answer in time; spooler retries"
#: What other codes of a server mean to people.
_SAID = {
    14031: "has no room on its disk; free some, nothing is lost meanwhile",
    **dict.fromkeys(
        (91, 189, 10107, 11600, 11602, 13435, 13436), "currently has no primary; spooler retries"
    ),
    **dict.fromkeys((50, 64, 89, 262), _LATE),
}
#: What is said of a server that has taken the connection and broken it.
_HUNG_UP = ("reset by peer", "connection closed")
#: The driver has meanwhile found out that the server does not answer anybody.
_GIVEN_UP = "_OperationCancelled"


class LoginRefused(BackendUnavailable):
    """The server answers and does not let us in, or not do this. An administrator can help."""


def open_client(address: MongoAddress, application: str = "spooler") -> Client:
    """Return a client for `address`; nothing is asked of the server yet.

    Raises ConfigError for what can never be a server, BackendUnavailable when a mongodb+srv
    name cannot be looked up.
    """
    uri = address.full_uri()
    try:
        # The driver leaves out what it does not understand, and be it tls; we do not.
        if options := uri.partition("?")[2]:
            split_options(options, validate=True, warn=False)
        return MongoClient(uri, **_options(address, uri, application))
    except InvalidURI:
        # The driver's own words may repeat parts of the URI, and so of the password.
        raise ConfigError(
            f"the MongoDB URI for {address.shown} cannot be read; it must look like "
            "mongodb://USER:PASSWORD@HOST:27017/, with %-escapes in name and password"
        ) from None
    except ConfigurationError as error:
        if _about_names(error):
            raise unavailable(error, address) from None
        raise ConfigError(_wrong_options(address, error)) from None
    except (ValueError, TypeError, OSError, ssl.SSLError) as error:
        raise ConfigError(_wrong_options(address, error)) from None


def open_as_sqooler(address: MongoAddress) -> Client:
    """A client whose server has answered; what is wrong is told as sqooler's users expect it.

    Raises pydantic's ValidationError for a login that can never work, and BackendUnavailable that
    is the driver's error as well.
    """
    try:
        client = open_client(address)
    except ConfigError as error:
        why = PydanticCustomError("mongodb_login", "{why}", {"why": str(error)})
        problem = InitErrorDetails(type=why, loc=("mongodb_database_url",), input=address.shown)
        raise ValidationError.from_exception_data("MongodbLoginInformation", [problem]) from None
    except BackendUnavailable as error:
        raise _both(error, ConfigurationError(str(error))) from None
    try:
        client.admin.command("ping")
    except PyMongoError as error:
        client.close()
        raise _both(unavailable(error, address), error) from None
    return client


def _both(ours: BackendUnavailable, driver: PyMongoError) -> BackendUnavailable:
    """`ours` as an instance of the driver's class, too."""
    kind = type(type(ours).__name__, (type(ours), type(driver)), {"__str__": lambda _: str(ours)})
    both: BackendUnavailable = kind.__new__(kind, *ours.args)
    both.__dict__.update({**vars(driver), **vars(ours)})
    return both


def _wrong_options(address: MongoAddress, error: Exception) -> str:
    return (
        f"the options for MongoDB at {address.shown} are not usable: "
        f"{_scrubbed(str(error), address)}"
    )


def _options(address: MongoAddress, uri: str, application: str) -> Document:
    """Return what the driver is told; a time that stands in the URI goes before ours."""
    milliseconds = round(address.operation_timeout * 1000)
    given = {name.lower() for name, _ in parse_qsl(uri.partition("?")[2])}
    times = {
        # For the whole of an operation: looking for a server, connecting, repeating.
        "timeoutMS": milliseconds,
        "serverSelectionTimeoutMS": milliseconds,
        "socketTimeoutMS": milliseconds,
        "connectTimeoutMS": round(address.connect_timeout * 1000),
        # A server that has lost its primary is looked at again only after this time.
        "heartbeatFrequencyMS": 2000,
    }
    return {
        **{name: value for name, value in times.items() if name.lower() not in given},
        "appname": application,
        "tz_aware": True,
        "tzinfo": UTC,
        "datetime_conversion": DatetimeConversion.DATETIME,
        # Whatever the URI says: another member may not know yet who has a job.
        "readPreference": "primary",
        "retryWrites": True,
        "retryReads": True,
        "w": "majority",
        "journal": True,
        **_login_options(address),
    }


def _login_options(address: MongoAddress) -> Document:
    options = {
        "username": address.user,
        "password": address.password,
        "authMechanism": address.auth_mechanism,
        "authSource": address.auth_source,
        "tls": address.tls,
        "tlsCAFile": address.tls_ca_file,
        "tlsCertificateKeyFile": address.tls_certificate_file,
    }
    options = {name: value for name, value in options.items() if value not in {"", None}}
    if address.user and not address.auth_source and address.auth_mechanism != "MONGODB-X509":
        options["authSource"] = "admin"  # where users are made, whatever database the URI names
    return options


@contextmanager
def translated(address: MongoAddress) -> Iterator[None]:
    """Turn the driver's errors inside the block into BackendUnavailable."""
    try:
        yield
    except PyMongoError as error:
        raise unavailable(error, address) from None
    except InvalidBSON as error:
        # Not the server's fault, and not ours: somebody's driver has written it.
        raise BackendUnavailable(
            f"MongoDB at {address.shown} holds a document that cannot be read "
            f"({_scrubbed(str(error), address)}); have it corrected or removed",
            scope=Scope.QUEUE,
        ) from None


def unavailable(error: PyMongoError, address: MongoAddress) -> BackendUnavailable:
    """Return the error of the loop for an error of the driver, with the way out."""
    code = _code(error)
    if code in _LOGIN or code in _RIGHTS:
        return LoginRefused(_refused(error, address, login=code in _LOGIN))
    return BackendUnavailable(f"MongoDB at {address.shown} {_trouble(error, code, address)}")


def is_trouble(code: int) -> bool:
    """Return whether a server's code is about the server, whatever it was asked."""
    return code in _SAID or code in _RIGHTS or code in _LOGIN


def _code(error: PyMongoError) -> int | None:
    """Return the server's code; errors about a lost primary have it in their details only."""
    details = getattr(error, "details", None)
    code = getattr(error, "code", None)
    return details.get("code") if code is None and isinstance(details, dict) else code


def _trouble(error: PyMongoError, code: int | None, address: MongoAddress) -> str:
    cause = _cause(error, address)
    if code in _SAID:
        return _SAID[code]
    if "SSL" in cause or "_ssl" in cause:
        return f"TLS with it failed ({cause}); check the tls options"
    if isinstance(error, ServerSelectionTimeoutError) or _about_names(error):
        return f"cannot be reached ({cause}); check {_what_to_see(error, address, cause)}"
    if error.timeout or type(error).__name__ == _GIVEN_UP:
        return _LATE
    if isinstance(error, ConnectionFailure):
        return f"closed the connection ({cause}); spooler retries"
    return f"refuses: {cause}"


def _what_to_see(error: PyMongoError, address: MongoAddress, cause: str) -> str:
    """Return where the mistake may lie when no server answers."""
    if _about_names(error) and address.host:
        return (
            "that the name is correct and belongs to a cluster (a host stands for "
            "mongodb+srv://HOST/; a single server is named by uri = mongodb://HOST:27017/)"
        )
    if any(word in cause for word in _HUNG_UP):
        return "whether it requires TLS, or a client certificate"
    return "that it runs, that the name is correct, and that this machine can reach it"


def _refused(error: PyMongoError, address: MongoAddress, *, login: bool) -> str:
    where = f"MongoDB at {address.shown}"
    if address.anonymous and "authentication" in (cause := _cause(error, address)):
        return f"{where} asks for a login ({cause}); name user and password"
    if login and address.by_certificate:
        name = f" as {address.user!r}" if address.user else ""
        return (
            f"{where} refuses the login by the certificate in {address.certificate}{name}; on the "
            "server, the certificate's subject must be a user of the database $external"
        )
    if login:
        user = f"the user {address.user!r}" if address.user else "the user"
        return f"{where} refuses the login of {user}; check name, password and authSource"
    databases = ", ".join(
        f"{address.prefix}{name}" for name in ("jobs", "status", "results", "backends", "spooler")
    )
    return (
        f"{where} does not permit this ({_cause(error, address)}); grant spooler's user the role "
        f"readWrite on the databases {databases}"
    )


def _about_names(error: PyMongoError) -> bool:
    """Return whether a name could not be looked up."""
    causes = (error, error.__cause__, error.__context__)
    return any(type(cause).__module__.startswith("dns.") for cause in causes) or (
        isinstance(error, ConfigurationError) and "DNS" in str(error)
    )


def _cause(error: PyMongoError, address: MongoAddress) -> str:
    """Return the driver's words, short and without secrets."""
    text = str(error)
    if isinstance(error, OperationFailure) and error.details:
        text = str(error.details.get("errmsg") or text)
    for end in (" (configured timeouts", ", Timeout:", ", Topology", ", full error"):
        text = text.partition(end)[0]
    return _scrubbed(text, address)


def _scrubbed(text: str, address: MongoAddress) -> str:
    """`text` as one short line in which no part of the login stands.

    A text that would have to be cut is not shown at all: of a short password the gaps tell all.
    """
    if any(secret in text for secret in address.secrets()):
        return "details withheld, they contain part of the login"
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


_LONGEST = 200
