//! Whom the bridge trusts.

use std::sync::Arc;

use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Why there is nobody to trust.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadRoots {
    #[error("is not PEM")]
    NotPem,
    #[error("holds no certificate")]
    Empty,
    #[error("holds a certificate that cannot be a CA")]
    NotCa,
    #[error("the system has no CA certificates (package ca-certificates)")]
    NoSystem,
}

/// Trusts the CAs in `pem` and nobody else.
///
/// # Errors
/// When it is not PEM, holds no certificate, or one that cannot be used.
pub(crate) fn trusting(pem: &[u8]) -> Result<Arc<ClientConfig>, BadRoots> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| BadRoots::NotPem)?;
        roots.add(certificate).map_err(|_| BadRoots::NotCa)?;
    }
    if roots.is_empty() {
        return Err(BadRoots::Empty);
    }
    Ok(client(roots))
}

/// Trusts whom the system trusts.
///
/// # Errors
/// When that is nobody.
pub(crate) fn trusting_system() -> Result<Arc<ClientConfig>, BadRoots> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(BadRoots::NoSystem);
    }
    Ok(client(roots))
}

/// Trusts nobody: for a client that only meets plain connections.
pub(crate) fn trusting_nobody() -> Arc<ClientConfig> {
    client(RootCertStore::empty())
}

/// TLS 1.2 and 1.3, without client certificates.
fn client(roots: RootCertStore) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let Ok(builder) = builder.with_safe_default_protocol_versions() else {
        // The provider is compiled in, and so are its protocol versions.
        unreachable!("aws-lc-rs offers TLS 1.2 and 1.3")
    };
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pem_with_a_certificate_names_a_ca() {
        let ca = rcgen::generate_simple_self_signed(["ca.test".to_owned()]).expect("a certificate");
        assert!(trusting(ca.cert.pem().as_bytes()).is_ok());
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(trusting(b""), Err(BadRoots::Empty)));
        assert!(matches!(
            trusting(ca.signing_key.serialize_pem().as_bytes()),
            Err(BadRoots::Empty)
        ));
        assert!(matches!(trusting(broken.as_bytes()), Err(BadRoots::NotCa)));
        assert!(matches!(
            trusting(b"-----BEGIN CERTIFICATE-----\n***"),
            Err(BadRoots::NotPem)
        ));
    }
}
