"""TLS to a broker: the authority that signed its certificate, and the certificate that says who we are."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from models.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

KEY_PASSWORD_VARIABLE: Final = "AFFECT_BROKER_KEY_PASSWORD"  # noqa: S105  (the variable's name)


@dataclass(frozen=True)
class ClientCertificate:
    """What a broker that asks for one is shown: a certificate and its private key, both PEM.

    `key` None says that the certificate's file holds the key too; `password` opens an encrypted key.
    """

    certificate: Path
    key: Path | None = None
    password: str | None = field(default=None, repr=False)

    def load_into(self, context: ssl.SSLContext) -> None:
        """From now on `context` shows it. Raises UserError for files that cannot be read or do not go together."""
        held_in = self.key or self.certificate
        is_encrypted = False

        def password() -> str:
            # OpenSSL asks for it only where the key is encrypted; without this it would ask on the terminal.
            nonlocal is_encrypted
            is_encrypted = True
            if self.password is None:
                raise UserError(
                    f"the key in {held_in} is encrypted: put its password into {KEY_PASSWORD_VARIABLE}, or give a "
                    "key that is not"
                )
            return self.password

        for path in (self.certificate, held_in):
            if not path.is_file():
                raise UserError(f"there is no file {path}: name the client certificate's PEM files")
        try:
            context.load_cert_chain(self.certificate, self.key, password)
        except OSError as error:
            raise UserError(_complaint(error, self.certificate, held_in, is_encrypted)) from None


def _complaint(error: OSError, certificate: Path, key: Path, is_encrypted: bool) -> str:
    if "KEY_VALUES_MISMATCH" in (getattr(error, "reason", None) or ""):
        return f"the key in {key} is not that of the certificate {certificate}: give the two that belong together"
    if is_encrypted:
        return f"the password does not open the key in {key}: put the right one into {KEY_PASSWORD_VARIABLE}"
    why = error.strerror if not isinstance(error, ssl.SSLError) else "no certificate with its key in PEM"
    without_key = (
        "" if key != certificate else ", and the key's with --client-key where it has a file of its own"
    )
    return (
        f"cannot read the client certificate in {certificate} and its key in {key} ({why or error}): name its PEM "
        f"file{without_key}"
    )


def tls_context(ca_file: Path | None, client: ClientCertificate | None = None) -> ssl.SSLContext:
    """What verifies a broker's certificate and name, by the authority in `ca_file` (PEM) or those that this machine
    knows, and shows ours where there is one. Raises UserError.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise UserError(
            f"cannot read certificates from {ca_file} ({error.strerror or error}): give a PEM file"
        ) from None
    if client is not None:
        client.load_into(context)
    return context
