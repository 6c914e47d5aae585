//! JSON, read a second time: only where a value begins and ends, so that what is skipped is not decoded.

/// A value. Of strings the text as it is written, quotes included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json<'a> {
    /// `null`.
    Null,
    /// A string.
    Text(&'a [u8]),
    /// `true`, `false` or a number.
    Plain,
    /// A list.
    List,
    /// The members in their order, equal names too.
    Object(Vec<(&'a [u8], Json<'a>)>),
}

/// How deep values may be nested that are compared.
const DEPTH: usize = 100;

/// What a text is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text<'a> {
    /// One document.
    Document(Json<'a>),
    /// None.
    Not,
    /// Nested too deeply to say.
    Deep,
}

/// Reads a text.
#[must_use]
pub fn read(text: &[u8]) -> Text<'_> {
    let mut reader = Reader { text, is_deep: false };
    let value = reader.value(DEPTH);
    reader.blank();
    match value {
        _ if reader.is_deep => Text::Deep,
        Some(value) if reader.text.is_empty() => Text::Document(value),
        _ => Text::Not,
    }
}

/// The text of a string; `None` when it is none that can be told.
#[must_use]
pub fn decoded(written: &[u8]) -> Option<String> {
    serde_json::from_slice(written).ok()
}

struct Reader<'a> {
    text: &'a [u8],
    is_deep: bool,
}

impl<'a> Reader<'a> {
    fn blank(&mut self) {
        let blank = self.text.iter().take_while(|byte| b" \t\n\r".contains(byte)).count();
        self.text = &self.text[blank..];
    }

    fn eat(&mut self, token: &[u8]) -> Option<()> {
        self.blank();
        self.text = self.text.strip_prefix(token)?;
        Some(())
    }

    fn value(&mut self, depth: usize) -> Option<Json<'a>> {
        if depth == 0 {
            self.is_deep = true;
            return None;
        }
        self.blank();
        match self.text.first()? {
            b'"' => self.string().map(Json::Text),
            b'{' => self.object(depth),
            b'[' => self.list(depth),
            b'n' => self.eat(b"null").map(|()| Json::Null),
            b't' => self.eat(b"true").map(|()| Json::Plain),
            b'f' => self.eat(b"false").map(|()| Json::Plain),
            _ => self.number().map(|()| Json::Plain),
        }
    }

    fn list(&mut self, depth: usize) -> Option<Json<'a>> {
        self.eat(b"[")?;
        if self.eat(b"]").is_some() {
            return Some(Json::List);
        }
        loop {
            self.value(depth - 1)?;
            if self.eat(b"]").is_some() {
                return Some(Json::List);
            }
            self.eat(b",")?;
        }
    }

    fn object(&mut self, depth: usize) -> Option<Json<'a>> {
        self.eat(b"{")?;
        let mut members = Vec::new();
        if self.eat(b"}").is_some() {
            return Some(Json::Object(members));
        }
        loop {
            self.blank();
            let name = self.string()?;
            self.eat(b":")?;
            members.push((name, self.value(depth - 1)?));
            if self.eat(b"}").is_some() {
                return Some(Json::Object(members));
            }
            self.eat(b",")?;
        }
    }

    /// A string, its escapes whole, its characters not looked at.
    fn string(&mut self) -> Option<&'a [u8]> {
        let whole = self.text;
        let mut rest = whole.strip_prefix(b"\"")?;
        loop {
            rest = match rest {
                [b'"', rest @ ..] => {
                    self.text = rest;
                    return Some(&whole[..whole.len() - rest.len()]);
                }
                [b'\\', b'u', a, b, c, d, rest @ ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) => {
                    rest
                }
                [b'\\', escaped, rest @ ..] if b"\"\\/bfnrt".contains(escaped) => rest,
                [byte, rest @ ..] if *byte != b'\\' && *byte >= b' ' => rest,
                _ => return None,
            };
        }
    }

    fn number(&mut self) -> Option<()> {
        let _ = self.eat(b"-");
        if self.text.first() == Some(&b'0') {
            self.text = &self.text[1..];
        } else {
            self.digits()?;
        }
        if let [b'.', rest @ ..] = self.text {
            self.text = rest;
            self.digits()?;
        }
        if let [b'e' | b'E', rest @ ..] = self.text {
            self.text = match rest {
                [b'+' | b'-', rest @ ..] => rest,
                _ => rest,
            };
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let digits = self.text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.text = &self.text[digits..];
        (digits > 0).then_some(())
    }
}
