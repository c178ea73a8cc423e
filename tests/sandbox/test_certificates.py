"""Certificates are kept across starts, unless their files do not belong together."""

from __future__ import annotations

from pathlib import Path

from cryptography.x509 import DNSName, SubjectAlternativeName, load_pem_x509_certificate

from sandbox.http.certificates import make_certificates


def test_a_second_start_keeps_what_clients_trust(tmp_path: Path) -> None:
    first = make_certificates(tmp_path).ca_file.read_bytes()
    assert make_certificates(tmp_path).ca_file.read_bytes() == first


def test_files_that_do_not_belong_together_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    files, other = make_certificates(tmp_path), make_certificates(tmp_path / "other")
    files.ca_file.write_bytes(other.ca_file.read_bytes())
    make_certificates(tmp_path)
    assert files.ca_file.read_bytes() != other.ca_file.read_bytes()
    files.key_file.write_text("garbage")
    make_certificates(tmp_path)
    assert "PRIVATE KEY" in files.key_file.read_text()


def test_a_certificate_without_the_host_is_replaced(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    files = make_certificates(tmp_path, "sandbox")
    first = files.ca_file.read_bytes()
    names = load_pem_x509_certificate(files.cert_file.read_bytes()).extensions.get_extension_for_class(
        SubjectAlternativeName
    )
    assert names.value.get_values_for_type(DNSName) == ["localhost", "sandbox"]
    assert make_certificates(tmp_path, "sandbox").ca_file.read_bytes() == first
