//! What stands for bytes in a script: `{ vector: name }`, `{ proto: [[field, value], …] }`, and
//! `{ verify: [hash, key, signature] }` for the arguments of `verify_signature`.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use prost::encoding::{WireType, encode_key, encode_varint};
use serde_json::{Value, json};

/// What all signatures of the vectors sign.
const TEXT: &[u8] = b"header.payload";

/// The name of a private RSA key, PKCS#8 in DER, that is made anew each time.
const RSA_PRIVATE: &str = "rsa-private";

/// Fields of `VerifySignatureArguments`.
const HASH: u32 = 1;
const KEY: u32 = 2;
const SIGNATURE: u32 = 3;
const SIGNED: u32 = 4;

#[derive(Debug)]
pub(crate) struct Vectors<'a> {
    known: &'a BTreeMap<String, String>,
    rsa_private: Vec<u8>,
}

impl<'a> Vectors<'a> {
    pub(crate) fn new(known: &'a BTreeMap<String, String>) -> anyhow::Result<Self> {
        let pair = KeyPair::generate(KeySize::Rsa2048)?;
        let der: Pkcs8V1Der<'_> = pair.as_der()?;
        Ok(Self {
            known,
            rsa_private: der.as_ref().to_vec(),
        })
    }

    /// Replaces them everywhere in a value by `{ hex: … }`.
    pub(crate) fn expand(&self, value: &mut Value) -> anyhow::Result<()> {
        match value {
            Value::Array(values) => values.iter_mut().try_for_each(|value| self.expand(value)),
            Value::Object(members) => {
                if let Some(bytes) = self.bytes_of(members)? {
                    *value = json!({ "hex": hex(&bytes) });
                    return Ok(());
                }
                members.values_mut().try_for_each(|value| self.expand(value))
            }
            _ => Ok(()),
        }
    }

    fn bytes_of(&self, members: &serde_json::Map<String, Value>) -> anyhow::Result<Option<Vec<u8>>> {
        let Some((name, value)) = members.iter().next().filter(|_| members.len() == 1) else {
            return Ok(None);
        };
        Ok(Some(match (name.as_str(), value) {
            ("vector", Value::String(name)) => self.vector(name)?,
            ("proto", Value::Array(fields)) => self.message(fields)?,
            ("verify", Value::Array(parts)) => self.verify(parts)?,
            _ => return Ok(None),
        }))
    }

    fn vector(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        if name == RSA_PRIVATE {
            return Ok(self.rsa_private.clone());
        }
        let digits = self
            .known
            .get(name)
            .with_context(|| format!("there is no vector `{name}`"))?;
        let (pairs, _) = digits.as_bytes().as_chunks::<2>();
        let byte = |pair: &[u8; 2]| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?);
        pairs.iter().map(byte).collect()
    }

    fn message(&self, fields: &[Value]) -> anyhow::Result<Vec<u8>> {
        let mut message = Vec::new();
        for field in fields {
            let number = field[0].as_u64().context("a field has a number")?;
            let number = u32::try_from(number)?;
            match &field[1] {
                Value::Number(value) => {
                    encode_key(number, WireType::Varint, &mut message);
                    encode_varint(value.as_u64().context("a number that is not negative")?, &mut message);
                }
                Value::String(text) => bytes(&mut message, number, text.as_bytes()),
                Value::Object(members) => match self.bytes_of(members)? {
                    Some(value) => bytes(&mut message, number, &value),
                    None => bail!("{field} stands for nothing"),
                },
                other => bail!("{other} is no value of a field"),
            }
        }
        Ok(message)
    }

    fn verify(&self, parts: &[Value]) -> anyhow::Result<Vec<u8>> {
        let [Value::String(hash), Value::String(key), Value::String(signature)] = parts else {
            bail!("`verify` has a hash, a key and a signature");
        };
        let mut message = Vec::new();
        bytes(&mut message, HASH, hash.as_bytes());
        bytes(&mut message, KEY, &self.vector(key)?);
        bytes(&mut message, SIGNATURE, &self.vector(signature)?);
        bytes(&mut message, SIGNED, TEXT);
        Ok(message)
    }
}

fn bytes(message: &mut Vec<u8>, field: u32, value: &[u8]) {
    encode_key(field, WireType::LengthDelimited, message);
    encode_varint(value.len() as u64, message);
    message.extend(value);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
