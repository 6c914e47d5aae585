//! What goes wrong with the Tenant Manager, by chance.

use corpus::answer::{Answer, Fault};
use fastrand::Rng;
use serde_json::json;

/// Larger than the largest record that the soak's configuration reads.
pub(crate) const TOO_LARGE: usize = 70_000;

/// One thing that goes wrong. While it does, all answers are so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Answers come late, but in time.
    Late,
    /// They come too late.
    TooLate,
    /// They never come.
    Silence,
    /// 500 or 503.
    ServerError,
    /// 429.
    Limited,
    /// 401, whatever the key.
    Unauthorized,
    /// The connection is closed instead of an answer.
    Close,
    /// The body breaks off.
    Half,
    /// Records are about somebody else.
    WrongId,
    /// Records are no JSON.
    NotJson,
    /// Records are too large.
    TooLarge,
    /// Somewhere else.
    Redirect,
    /// Nobody listens.
    Down,
}

const ALL: [Trouble; 13] = [
    Trouble::Late,
    Trouble::TooLate,
    Trouble::Silence,
    Trouble::ServerError,
    Trouble::Limited,
    Trouble::Unauthorized,
    Trouble::Close,
    Trouble::Half,
    Trouble::WrongId,
    Trouble::NotJson,
    Trouble::TooLarge,
    Trouble::Redirect,
    Trouble::Down,
];

impl Trouble {
    /// One by chance.
    pub(crate) fn any(dice: &mut Rng) -> Self {
        ALL[dice.usize(..ALL.len())]
    }

    /// What becomes of an answer.
    pub(crate) fn of(self, answer: Answer, dice: &mut Rng) -> Answer {
        let status = |status: u16| Answer {
            status: Some(status),
            body: Some(json!({ "code": "TROUBLE" })),
            ..Answer::default()
        };
        match self {
            Self::Late => Answer {
                delay_ms: dice.u64(20..400),
                ..answer
            },
            Self::TooLate => Answer {
                delay_ms: dice.u64(1_100..2_500),
                ..answer
            },
            Self::Silence => Answer {
                fault: Some(Fault::Silence),
                ..answer
            },
            Self::ServerError => status(if dice.bool() { 500 } else { 503 }),
            Self::Limited => Answer {
                headers: vec![("retry-after".to_owned(), "1".to_owned())],
                ..status(429)
            },
            Self::Unauthorized => status(401),
            Self::Close | Self::Down => Answer {
                fault: Some(Fault::CloseBeforeHeaders),
                ..answer
            },
            Self::Half => Answer {
                fault: Some(Fault::ResetMidBody),
                ..answer
            },
            Self::Redirect => Answer {
                headers: vec![("location".to_owned(), "/elsewhere".to_owned())],
                ..status(302)
            },
            // What is no record stays what it is: a refusal is one under any name.
            Self::WrongId | Self::NotJson | Self::TooLarge => match answer.record {
                None => answer,
                Some(mut record) => match self {
                    Self::WrongId => {
                        record["id"] = json!("t-somebody-else");
                        Answer {
                            record: Some(record),
                            ..answer
                        }
                    }
                    Self::TooLarge => Answer {
                        record: Some(record),
                        pad_to_bytes: Some(TOO_LARGE),
                        ..answer
                    },
                    _ => Answer {
                        record: None,
                        body: Some(json!("{\"id\":")),
                        ..answer
                    },
                },
            },
        }
    }
}
