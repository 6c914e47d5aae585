//! The tenants, what the Tenant Manager truly says of them, and the credentials of their callers.

use std::collections::BTreeMap;

use anyhow::Result;
use corpus::answer::Answer;
use corpus::case::{Damage, Made, Token};
use corpus::mint::Keys;
use serde_json::{Value, json};

/// The issuer whose keys turn.
pub(crate) const TURNING: &str = "https://turning.example.com";
/// Its keys. Two of them are good at a time.
pub(crate) const TURNING_KEYS: [&str; 3] = ["main-es384", "main-rs384", "main-ps384"];
/// What the rate of the limited tenants is, in requests per second, and their burst.
pub(crate) const LIMIT: u32 = 5;
/// How many tenants there are of each special kind.
pub(crate) const SPECIAL: usize = 8;
/// With what the names of tenants begin that only bad tokens name.
pub(crate) const FORGED: &str = "forged-";

/// The signing keys of good tokens, one for each algorithm.
const KEYS: [&str; 4] = ["main-rs256", "main-es256", "main-eddsa", "main-hs256"];

/// What there is to know of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It may do everything.
    Good,
    /// It may do everything, so often.
    Limited,
    /// It is suspended and activated in turns.
    Swinging,
    /// It has been suspended for ever.
    Frozen,
    /// Access is denied.
    Barred,
    /// The Tenant Manager does not know it.
    Unknown,
    /// The service is not set up for it.
    Unprovisioned,
    /// It has one of the two modules.
    Half,
    /// In schema mode, without a good schema.
    Shapeless,
}

const SPECIALS: [Standing; 8] = [
    Standing::Limited,
    Standing::Swinging,
    Standing::Frozen,
    Standing::Barred,
    Standing::Unknown,
    Standing::Unprovisioned,
    Standing::Half,
    Standing::Shapeless,
];

/// A tenant.
#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    pub(crate) id: String,
    pub(crate) standing: Standing,
    /// Its schema, in schema mode.
    pub(crate) schema: Option<String>,
    /// A token of its own that holds for the whole run.
    pub(crate) token: Vec<u8>,
    /// Such tokens by each of [`TURNING_KEYS`]; of some tenants none.
    pub(crate) turning: Vec<Vec<u8>>,
}

impl Tenant {
    /// `tenantSlug` of its record.
    pub(crate) fn slug(&self) -> String {
        format!("slug-of-{}", self.id)
    }

    /// What the Tenant Manager says of it; of a swinging one while it is active.
    pub(crate) fn answer(&self) -> Answer {
        let refused = |status: u16, body: Value| Answer {
            status: Some(status),
            body: Some(body),
            ..Answer::default()
        };
        match self.standing {
            Standing::Good | Standing::Limited | Standing::Swinging | Standing::Half | Standing::Shapeless => Answer {
                record: Some(self.record()),
                ..Answer::default()
            },
            Standing::Frozen => suspended(),
            Standing::Barred => refused(403, json!({ "code": "DENIED" })),
            Standing::Unknown => Answer::unknown_tenant(),
            Standing::Unprovisioned => refused(422, json!({ "code": "NOT_PROVISIONED" })),
        }
    }

    fn record(&self) -> Value {
        let database = match &self.schema {
            Some(schema) => json!({ "postgresql": { "host": "db", "password": "hunter2", "schema": schema } }),
            None => json!({ "postgresql": { "host": "db", "password": "hunter2" } }),
        };
        let mut databases = json!({ "onboarding": database });
        if self.standing != Standing::Half {
            databases["transaction"] = database;
        }
        let is_schema = self.schema.is_some() || self.standing == Standing::Shapeless;
        json!({
            "id": self.id, "tenantSlug": self.slug(), "status": "active", "databases": databases,
            "isolationMode": if is_schema { "schema" } else { "isolated" },
        })
    }
}

/// What the Tenant Manager says of a tenant that is suspended.
pub(crate) fn suspended() -> Answer {
    Answer {
        status: Some(403),
        body: Some(json!({ "code": "TS-SUSPENDED", "status": "suspended" })),
        ..Answer::default()
    }
}

/// A credential that proves nothing, and what it is answered with.
#[derive(Debug, Clone)]
pub(crate) struct Bad {
    /// The value of `Authorization`, if there is one.
    pub(crate) credential: Option<Vec<u8>>,
    pub(crate) code: &'static str,
}

/// Everybody.
#[derive(Debug)]
pub(crate) struct Population {
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) bad: Vec<Bad>,
}

impl Population {
    /// So many good tenants, [`SPECIAL`] of each other kind, and credentials that hold for `seconds`.
    ///
    /// # Errors
    /// When a token cannot be made.
    pub(crate) fn new(good: usize, seconds: u64, now: u64) -> Result<Self> {
        let specials = SPECIALS.into_iter().flat_map(|standing| [standing; SPECIAL]);
        let standings: Vec<_> = specials.chain(std::iter::repeat_n(Standing::Good, good)).collect();
        let mut tenants = Vec::with_capacity(standings.len());
        for (number, standing) in standings.into_iter().enumerate() {
            let id = format!("t-{number:05}");
            let key = KEYS[number % KEYS.len()];
            let turns = standing == Standing::Good && number % 16 == 0;
            let turning = TURNING_KEYS.iter().filter(|_| turns);
            tenants.push(Tenant {
                schema: (standing == Standing::Good && number % 5 == 0).then(|| format!("schema_{number}")),
                token: token(&id, key, json!({}), seconds, now)?,
                turning: turning
                    .map(|key| token(&id, key, json!({ "iss": TURNING }), seconds, now))
                    .collect::<Result<_>>()?,
                id,
                standing,
            });
        }
        Ok(Self {
            tenants,
            bad: bad(seconds, now)?,
        })
    }

    /// What the Tenant Manager says when nothing is wrong with it.
    pub(crate) fn answers(&self) -> BTreeMap<String, Answer> {
        self.tenants
            .iter()
            .map(|tenant| (tenant.id.clone(), tenant.answer()))
            .collect()
    }

    /// The tenants of a kind, by their places.
    pub(crate) fn of(&self, standing: Standing) -> impl Iterator<Item = usize> {
        let tenants = self.tenants.iter().enumerate();
        tenants
            .filter(move |(_, tenant)| tenant.standing == standing)
            .map(|(place, _)| place)
    }
}

fn token(tenant: &str, key: &str, claims: Value, seconds: u64, now: u64) -> Result<Vec<u8>> {
    let mut claims = claims;
    claims["exp"] = json!(now + seconds);
    let made = Made {
        tenant: Some(tenant.to_owned()),
        key: Some(key.to_owned()),
        claims: Some(claims),
        ..Made::default()
    };
    bearer(made, now)
}

fn bearer(made: Made, now: u64) -> Result<Vec<u8>> {
    let token = Keys::shared().token(&Token::Made(Box::new(made)), now)?;
    Ok([b"Bearer ", &token[..]].concat())
}

/// Credentials with something wrong, several of each kind. Those that name a tenant name one of [`FORGED`].
fn bad(seconds: u64, now: u64) -> Result<Vec<Bad>> {
    let mut all = Vec::new();
    for number in 0..6 {
        let base = || Made {
            tenant: Some(format!("{FORGED}{number}")),
            key: Some(KEYS[number % KEYS.len()].to_owned()),
            claims: Some(json!({ "exp": now + seconds })),
            ..Made::default()
        };
        let claims = |claims: Value| Made {
            claims: Some(claims),
            ..base()
        };
        let damaged = |damage| Made {
            damage: Some(damage),
            ..base()
        };
        let refused = [
            claims(json!({ "exp": now - 120 })),
            claims(json!({ "exp": now + seconds, "nbf": now + seconds })),
            claims(json!({ "exp": now + seconds, "iss": "https://nobody.example.com" })),
            claims(json!({ "exp": now + seconds, "aud": "others" })),
            claims(json!({ "exp": null })),
            damaged(Damage::FlipSignature),
            damaged(Damage::SwapClaims),
            damaged(Damage::DropSignature),
            damaged(Damage::AddPart),
            damaged(Damage::ZeroSignature),
            Made {
                header: Some(json!({ "alg": "none" })),
                damage: Some(Damage::DropSignature),
                ..base()
            },
            Made {
                header: Some(json!({ "kid": "main-es256" })),
                key: Some("other-es256".to_owned()),
                ..base()
            },
            Made {
                header: Some(json!({ "crit": ["exp"] })),
                ..base()
            },
            Made {
                raw: Some("a".repeat(17_000 + number)),
                ..base()
            },
            Made {
                raw: Some(format!("e30.e30.{number}")),
                ..base()
            },
        ];
        let without_tenant = Made { tenant: None, ..base() };
        let malformed = Made {
            tenant: Some(format!("{FORGED}{number} ")),
            ..base()
        };
        let made = refused.map(|made| (made, "TOKEN_INVALID")).into_iter();
        for (made, code) in made.chain([(without_tenant, "TENANT_ID_REQUIRED"), (malformed, "TENANT_ID_INVALID")]) {
            let credential = Some(bearer(made, now)?);
            all.push(Bad { credential, code });
        }
        for credential in [
            None,
            Some(&b"Basic dXNlcg=="[..]),
            Some(b"Bearer"),
            Some(b"Bearer a, b"),
        ] {
            all.push(Bad {
                credential: credential.map(<[u8]>::to_vec),
                code: "TENANT_ID_REQUIRED",
            });
        }
    }
    Ok(all)
}
