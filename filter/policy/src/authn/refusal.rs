//! Why a caller is not believed: one word for each reason.

/// The reasons, each with its word.
macro_rules! refusals {
    ($($(#[$doc:meta])* $refusal:ident = $word:literal),+ $(,)?) => {
        /// Why a caller is not believed. For logs and counters: the reply never says it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Refusal { $($(#[$doc])* $refusal),+ }

        impl Refusal {
            /// Every reason there is.
            pub const ALL: &[Self] = &[$(Self::$refusal),+];

            /// The reason as a word.
            pub fn name(self) -> &'static str {
                match self { $(Self::$refusal => $word),+ }
            }
        }
    };
}

refusals! {
    /// Nothing usable was given: no credential, several, another scheme.
    NoCredential = "no_credential",
    /// Mode `upstream_metadata`: no filter before this one has left claims at the configured place.
    NoMetadata = "no_metadata",
    /// Longer than `auth.max_token_bytes`.
    TooLong = "too_long",
    /// Not three base64url parts of a JWS.
    Malformed = "malformed",
    /// The JOSE header is not a strict JSON object.
    Header = "header",
    /// The JOSE header has `crit`, or a `b64` that is not true.
    Critical = "critical",
    /// `typ` is not an accepted type.
    Type = "type",
    /// The claims are not a strict JSON object.
    Claims = "claims",
    /// `iss` is missing or names no configured issuer.
    Issuer = "issuer",
    /// `alg` is missing, unknown or not in the issuer's allow-list.
    Algorithm = "algorithm",
    /// No key fits, or `kid` is not a non-empty string.
    KeyUnknown = "key_unknown",
    /// More than one key fits.
    KeyAmbiguous = "key_ambiguous",
    /// Too many requests wait for keys already.
    KeyWaitOverloaded = "key_wait_overloaded",
    /// The signature does not hold.
    Signature = "signature",
    /// `exp` is missing.
    NoExpiry = "exp_missing",
    /// `exp` is not a number, or over.
    Expired = "expired",
    /// `nbf` or `iat` is not a number, or not reached.
    NotYetValid = "not_yet_valid",
    /// `aud` names none of the issuer's audiences.
    Audience = "audience",
    /// Stage 3: the tenant claim is missing, empty or not a string.
    TenantClaim = "tenant_claim",
    /// Stage 3: the tenant claim is no possible tenant id.
    TenantId = "tenant_id",
    /// Stage 3: the tenant is outside what the issuer may name.
    TenantOfOtherIssuer = "tenant_of_other_issuer",
}
