"""HTTP for the stand-ins: listeners, certificates, signatures, and the responses that both APIs share."""
