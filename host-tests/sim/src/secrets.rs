//! Nothing secret may show.

use std::collections::HashSet;

use corpus::mint::Keys;
use memchr::memmem::Finder;

use crate::fault::{Fault, Rule};
use crate::tokens::SECRET_KEY;

/// What may not show, by how it is found.
#[derive(Debug)]
pub struct Secrets {
    finders: Vec<(&'static str, Finder<'static>)>,
    /// Signatures of tokens that were sent.
    signatures: HashSet<String>,
}

impl Default for Secrets {
    fn default() -> Self {
        let hmac = Keys::shared().secret(SECRET_KEY).expect("a secret");
        let finder = |text: &str| Finder::new(text.as_bytes()).into_owned();
        Self {
            finders: vec![
                // API keys, passwords, texts of others, claims: all of them are planted.
                ("something planted", finder("planted-")),
                // Header and claims of a token are JSON objects, which begin like this in base64.
                ("a part of a token", finder("eyJ")),
                ("the HMAC secret", finder(&hmac)),
            ],
            signatures: HashSet::new(),
        }
    }
}

impl Secrets {
    /// A token was sent.
    pub fn plant(&mut self, token: &str) {
        if let Some((_, signature)) = token.rsplit_once('.').filter(|(_, signature)| signature.len() > 16) {
            self.signatures.insert(signature.to_owned());
        }
    }

    /// Looks whether something secret shows.
    pub fn check(&self, place: &str, bytes: &[u8]) -> Result<(), Fault> {
        for (name, finder) in &self.finders {
            if finder.find(bytes).is_some() {
                return Self::shows(name, place, bytes);
            }
        }
        let words = bytes.split(|byte| !byte.is_ascii_alphanumeric() && !matches!(byte, b'-' | b'_'));
        for word in words.filter(|word| word.len() > 16) {
            if std::str::from_utf8(word).is_ok_and(|word| self.signatures.contains(word)) {
                return Self::shows("the signature of a token", place, bytes);
            }
        }
        Ok(())
    }

    fn shows(name: &str, place: &str, bytes: &[u8]) -> Result<(), Fault> {
        Rule::Integrity.broken(format!("{name} shows in {place}: {}", bytes.escape_ascii()))
    }
}
