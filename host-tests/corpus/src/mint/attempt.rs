//! Signatures to try a verifier with: good ones, and the ways of breaking them.

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use fastrand::Rng;
use num_bigint::BigUint;

use super::Keys;
use super::algorithm::Algorithm;

/// A signature that somebody shows for a message.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// What was done to it.
    pub what: &'static str,
    /// The signature, not yet base64url.
    pub signature: Vec<u8>,
    /// Whether it is one.
    pub holds: bool,
}

/// The orders of P-256 and P-384 (SP 800-186 §3.2.1).
const P256_ORDER: &[u8] = b"ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
const P384_ORDER: &[u8] =
    b"ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973";

impl Keys {
    /// Signatures of the asymmetric key `name` over `input`, good and broken in every way that is
    /// known for its algorithm. The ways are the same in every run with the same `dice`; keys and
    /// ECDSA signatures are not.
    ///
    /// # Errors
    /// When there is no such key.
    pub fn attempts(&self, name: &str, input: &[u8], dice: &mut Rng) -> Result<Vec<Attempt>> {
        let algorithm = self.key(name)?.algorithm();
        let good = self.sign(name, algorithm.name(), input)?;
        let mut attempts = Attempts(vec![Attempt {
            what: "as it is",
            signature: good.clone(),
            holds: true,
        }]);
        attempts.broken_as_bytes(&good, dice);

        let other = name.replacen("main-", "other-", 1);
        attempts.bad("of another key", self.sign(&other, algorithm.name(), input)?);
        let another = [input, b"."].concat();
        attempts.bad("of another message", self.sign(name, algorithm.name(), &another)?);
        match algorithm {
            Algorithm::Es256 => self.ecdsa(name, P256_ORDER, input, &good, &mut attempts)?,
            Algorithm::Es384 => self.ecdsa(name, P384_ORDER, input, &good, &mut attempts)?,
            Algorithm::EdDsa => {}
            _ => self.rsa(name, algorithm, input, &good, &mut attempts)?,
        }
        Ok(attempts.0)
    }

    fn rsa(&self, name: &str, own: Algorithm, input: &[u8], good: &[u8], attempts: &mut Attempts) -> Result<()> {
        for alg in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
            if alg != own.name() {
                attempts.bad("with another hash or padding", self.sign(name, alg, input)?);
            }
        }
        let jwk = self.jwk(name)?;
        let modulus = jwk["n"].as_str().context("an RSA key")?;
        let modulus = BigUint::from_bytes_be(&BASE64URL.decode(modulus)?);
        let number = BigUint::from_bytes_be(good);
        let length = good.len();
        attempts.number("0", &BigUint::ZERO, length);
        attempts.number("1", &1u32.into(), length);
        attempts.number("the modulus less 1", &(&modulus - 1u32), length);
        attempts.number("the modulus", &modulus, length);
        attempts.number("the modulus and 1", &(&modulus + 1u32), length);
        attempts.number("the modulus less the signature", &(&modulus - &number), length);
        attempts.number("the signature and the modulus", &(&modulus + &number), length);
        Ok(())
    }

    fn ecdsa(&self, name: &str, order: &[u8], input: &[u8], good: &[u8], attempts: &mut Attempts) -> Result<()> {
        let order = BigUint::parse_bytes(order, 16).context("hexadecimal")?;
        let half = good.len() / 2;
        let (r, s) = good.split_at(half);
        let (r, s) = (BigUint::from_bytes_be(r), BigUint::from_bytes_be(s));
        let one = BigUint::from(1u32);
        let odd = [
            BigUint::ZERO,
            one.clone(),
            &order - &one,
            order.clone(),
            &order + &one,
            (&one << (half * 8)) - &one,
        ];
        for number in &odd {
            attempts.pair("an odd r", number, &s, half);
            attempts.pair("an odd s", &r, number, half);
            for other in &odd {
                attempts.pair("odd numbers", number, other, half);
            }
        }
        attempts.pair("r and s exchanged", &s, &r, half);
        attempts.pair("r less the order", &(&order - &r), &s, half);
        attempts.pair("the same number twice", &r, &r, half);
        // Either sign of s is a signature (SEC 1 §4.1.4); JWS does not choose between them.
        let malleable = padded(&(&order - &s), half);
        attempts.0.push(Attempt {
            what: "s less the order",
            signature: [padded(&r, half), malleable].concat(),
            holds: true,
        });
        let (long_r, long_s) = (padded(&r, half + 1), padded(&s, half + 1));
        attempts.bad("zeros before r and s", [&long_r[..], &long_s].concat());
        attempts.bad("a zero before s", [&padded(&r, half)[..], &long_s].concat());
        let der = self.key(name)?.sign_in_der(input)?;
        let mut cut = der.clone();
        cut.truncate(half * 2);
        attempts.bad("in DER", der);
        attempts.bad("in DER, cut to length", cut);
        Ok(())
    }
}

struct Attempts(Vec<Attempt>);

impl Attempts {
    fn bad(&mut self, what: &'static str, signature: Vec<u8>) {
        self.0.push(Attempt {
            what,
            signature,
            holds: false,
        });
    }

    fn number(&mut self, what: &'static str, number: &BigUint, length: usize) {
        self.bad(what, padded(number, length));
    }

    fn pair(&mut self, what: &'static str, r: &BigUint, s: &BigUint, half: usize) {
        self.bad(what, [padded(r, half), padded(s, half)].concat());
    }

    fn broken_as_bytes(&mut self, good: &[u8], dice: &mut Rng) {
        let length = good.len();
        for _ in 0..4 {
            let mut flipped = good.to_vec();
            flipped[dice.usize(..length)] ^= 1 << dice.u32(..8);
            self.bad("a bit flipped", flipped);
        }
        let mut replaced = good.to_vec();
        replaced[dice.usize(..length)] ^= dice.u8(1..);
        self.bad("a byte replaced", replaced);
        let mut exchanged = good.to_vec();
        exchanged.rotate_left(dice.usize(1..length));
        self.bad("rotated", exchanged);
        self.bad("cut at the end", good[..dice.usize(..length)].to_vec());
        self.bad("cut at the start", good[dice.usize(1..length)..].to_vec());
        self.bad("without its last byte", good[..length - 1].to_vec());
        self.bad("without its first byte", good[1..].to_vec());
        self.bad("empty", Vec::new());
        self.bad("a zero before it", [&[0], good].concat());
        self.bad("a zero behind it", [good, &[0]].concat());
        self.bad("twice", good.repeat(2));
        self.bad("all zeros", vec![0; length]);
        self.bad("all ones", vec![0xff; length]);
        self.bad("bytes by chance", (0..length).map(|_| dice.u8(..)).collect());
        let any = dice.usize(..2 * length);
        self.bad(
            "bytes by chance, as many as you like",
            (0..any).map(|_| dice.u8(..)).collect(),
        );
    }
}

/// The number in big-endian bytes, zeros before it; longer only when it does not fit.
fn padded(number: &BigUint, length: usize) -> Vec<u8> {
    let bytes = number.to_bytes_be();
    let zeros = length.saturating_sub(bytes.len());
    [&vec![0; zeros][..], &bytes].concat()
}
