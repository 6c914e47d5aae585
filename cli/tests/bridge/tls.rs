//! Certificates that are made for one test, and TLS in front of what speaks none.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A CA, and a certificate of it for 127.0.0.1 with its key, all in PEM.
#[derive(Debug)]
pub(crate) struct Certificates {
    pub(crate) authority: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Certificates {
    pub(crate) fn generate() -> Self {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key"));
        let authority = authority.expect("a CA");
        let key = KeyPair::generate().expect("a key");
        let server = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
        let server = server.signed_by(&key, &authority).expect("a certificate");
        Self {
            authority: authority.pem(),
            certificate: server.pem(),
            key: key.serialize_pem(),
        }
    }
}

/// Takes TLS and passes on what is in it. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Terminator {
    address: SocketAddr,
    _connections: JoinSet<()>,
}

impl Terminator {
    /// TLS in front of that address.
    pub(crate) async fn start(certificates: &Certificates, server: SocketAddr) -> Self {
        let certificate = CertificateDer::from_pem_slice(certificates.certificate.as_bytes()).expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(certificates.key.as_bytes()).expect("PEM");
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a certificate with its key");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut pipes = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.expect("a connection");
                let acceptor = acceptor.clone();
                pipes.spawn(async move {
                    // Whoever does not trust us goes away.
                    let Ok(mut near) = acceptor.accept(near).await else {
                        return;
                    };
                    let Ok(mut far) = TcpStream::connect(server).await else {
                        return;
                    };
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Self {
            address,
            _connections: connections,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }
}
