//! Stage 0: what only the filter may say is taken out of every request.
//!
//! Removed, all field lines of it, on every path and also from trailers:
//!
//! 1. the headers that the filter emits, and every `x-tenant-*`;
//! 2. look-alikes of those and of the names in scope rules: a name is folded by lower-casing,
//!    turning every byte that is not a letter or digit into `-`, and collapsing runs; what
//!    folds to such a name without being it goes (CGI-style servers read them as one);
//! 3. in trailers and on public paths also the headers that scope rules name: without a tenant
//!    they cannot be trusted;
//! 4. in trailers and on public paths also the headers by which some servers exchange path or
//!    method; those that exchange the path also where it is scoped or decides on the module.
//!
//! Without `auth.forward_token` the credential is taken out too. Of a request that changes
//! protocol, `Connection` becomes `Upgrade` alone: a header that it nominates besides would be
//! dropped by the next hop, ours among them.

use std::collections::HashSet;

use crate::config::Config;
use crate::request::RequestHead;
use crate::scope::{Edit, fold};

/// Headers that may exchange the path behind the proxy.
const PATHS: [&[u8]; 2] = [b"x-original-url", b"x-rewrite-url"];
/// Headers that may exchange the method behind the proxy.
const METHODS: [&[u8]; 3] = [b"x-http-method-override", b"x-http-method", b"x-method-override"];

/// Which headers go. Made once per configuration.
#[derive(Debug)]
pub struct Sanitizer {
    /// Folded names of the headers that the filter emits. A handful: looking at each is cheaper than
    /// a hash that nobody can aim at.
    owned: Vec<Vec<u8>>,
    /// Folded name → name as the scope rule has it.
    scoped: Vec<(Vec<u8>, Vec<u8>)>,
    /// Names of the headers that claims are copied into: on a second pass they are the first one's.
    claims: Vec<Vec<u8>>,
    /// Whether a tenant's path is scoped, or decides on the module.
    path_matters: bool,
    /// Taken out besides, by exact name.
    credential: Option<Vec<u8>>,
}

/// Where field lines stand, which decides what may stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The head of a request that will be scoped.
    Protected,
    /// The head of a request that an earlier pass has scoped, before an internal redirect.
    SecondPass,
    /// The head of a request that passes without a tenant.
    Public,
    /// Trailers.
    Trailers,
}

impl Place {
    /// Whether nothing there will be scoped.
    fn is_without_tenant(self) -> bool {
        match self {
            Self::Protected | Self::SecondPass => false,
            Self::Public | Self::Trailers => true,
        }
    }
}

impl Sanitizer {
    /// The rules for one configuration.
    pub fn new(config: &Config) -> Self {
        let emit = &config.scope.emit;
        let claims = || config.scope.claims.iter().map(|(_, name)| name);
        let owned = emit
            .named()
            .map(|(_, name)| name)
            .chain(claims())
            .map(|name| fold(name.as_str().as_bytes()).into_owned())
            .collect();
        let claims = claims().map(|name| name.as_str().as_bytes().to_vec()).collect();
        let scoped = config
            .scope
            .rules
            .iter()
            .map(|rule| {
                let name = rule.name.as_str().as_bytes();
                (fold(name).into_owned(), name.to_vec())
            })
            .collect();
        let credential = (!config.auth.forward_token).then(|| config.auth.header.as_str().as_bytes().to_vec());
        Self {
            owned,
            scoped,
            claims,
            path_matters: !config.scope.paths.is_empty() || !config.modules.routes.is_empty(),
            credential,
        }
    }

    /// The edits for `head`; each name is removed once.
    pub fn edits(&self, head: &RequestHead<'_>, place: Place) -> Vec<Edit> {
        let mut edits: Vec<Edit> = Vec::new();
        // Costs nothing until something must go; then there may be very many of them.
        let mut seen = HashSet::new();
        for (name, _) in head.fields() {
            if self.must_go(name, place) && seen.insert(name) {
                edits.push(Edit::Remove(name.to_vec()));
            }
        }
        if !place.is_without_tenant() && head.has(b"upgrade") {
            edits.push(Edit::Set(b"connection".to_vec(), b"Upgrade".to_vec()));
        }
        edits
    }

    fn must_go(&self, name: &[u8], place: Place) -> bool {
        if name.starts_with(b":") {
            return false;
        }
        if place == Place::SecondPass && self.claims.iter().any(|claim| name.eq_ignore_ascii_case(claim)) {
            return false;
        }
        let folded = fold(name);
        if folded.starts_with(b"x-tenant-") || self.owned.iter().any(|owned| **owned == *folded) {
            return true;
        }
        let is_credential = self
            .credential
            .as_ref()
            .is_some_and(|credential| name.eq_ignore_ascii_case(credential));
        if is_credential {
            return true;
        }
        if let Some((_, exact)) = self.scoped.iter().find(|(scoped, _)| **scoped == *folded) {
            return place.is_without_tenant() || !name.eq_ignore_ascii_case(exact);
        }
        let may_change_path = place.is_without_tenant() || self.path_matters;
        (may_change_path && PATHS.contains(&folded.as_ref()))
            || (place.is_without_tenant() && METHODS.contains(&folded.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope::HeaderName;

    fn sanitizer() -> Sanitizer {
        let owned = [&b"x-org"[..], b"x-tenant-id"].map(|name| fold(name).into_owned());
        let name = HeaderName::parse("x-routing-key").unwrap();
        let scoped = name.as_str().as_bytes().to_vec();
        Sanitizer {
            owned: owned.into_iter().collect(),
            scoped: [(fold(&scoped).into_owned(), scoped.clone())].into_iter().collect(),
            claims: vec![b"x-org".to_vec()],
            path_matters: false,
            credential: None,
        }
    }

    fn removed(names: &[&str], place: Place) -> Vec<String> {
        let fields: Vec<_> = names.iter().map(|name| (name.as_bytes(), &b"v"[..])).collect();
        sanitizer()
            .edits(&RequestHead::new(&fields), place)
            .iter()
            .map(|edit| String::from_utf8(edit.name().to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn owned_headers_and_their_look_alikes_go_everywhere() {
        let names = [
            "x-tenant-id",
            "X-Tenant-Id",
            "x_tenant_id",
            "x.tenant--id",
            "x-tenant-anything",
            "x-org",
            "x_org",
            "X__Org",
        ];
        for place in [Place::Protected, Place::Public, Place::Trailers] {
            assert_eq!(removed(&names, place), names);
        }
    }

    #[test]
    fn scoped_headers_stay_only_where_they_will_be_scoped() {
        let names = ["x-routing-key", "x_routing_key", "x-routing--key"];
        assert_eq!(removed(&names, Place::Protected), ["x_routing_key", "x-routing--key"]);
        assert_eq!(removed(&names, Place::Public), names);
        assert_eq!(removed(&names, Place::Trailers), names);
    }

    #[test]
    fn on_a_second_pass_what_claims_were_copied_into_stays() {
        let names = ["x-org", "x_org", "x-tenant-id", "x-routing-key", "x_routing_key"];
        assert_eq!(
            removed(&names, Place::SecondPass),
            ["x_org", "x-tenant-id", "x_routing_key"]
        );
    }

    #[test]
    fn overrides_of_path_and_method_go_on_public_paths() {
        let names = ["x-original-url", "X-HTTP-Method-Override", "x_rewrite_url"];
        assert_eq!(removed(&names, Place::Public), names);
        assert_eq!(removed(&names, Place::Trailers), names);
        assert!(removed(&names, Place::Protected).is_empty());
    }

    #[test]
    fn where_the_path_matters_nothing_exchanges_it() {
        let sanitizer = Sanitizer {
            path_matters: true,
            ..sanitizer()
        };
        let fields: [(&[u8], &[u8]); 3] = [
            (b"X-Original-URL", b"/storage/globex/a"),
            (b"x_rewrite_url", b"/storage/globex/a"),
            (b"x-http-method-override", b"PUT"),
        ];
        for place in [Place::Protected, Place::SecondPass] {
            let edits = sanitizer.edits(&RequestHead::new(&fields), place);
            let removed: Vec<_> = edits.iter().map(Edit::name).collect();
            assert_eq!(removed, [&b"X-Original-URL"[..], b"x_rewrite_url"]);
        }
    }

    #[test]
    fn an_upgrade_nominates_nothing_but_itself() {
        let fields: [(&[u8], &[u8]); 2] = [(b"connection", b"Upgrade, x-tenant-id"), (b"upgrade", b"websocket")];
        let edits = sanitizer().edits(&RequestHead::new(&fields), Place::Protected);
        assert_eq!(edits, [Edit::Set(b"connection".to_vec(), b"Upgrade".to_vec())]);
    }

    #[test]
    fn strangers_stay_and_a_repeated_name_is_removed_once() {
        assert!(
            removed(
                &["x-tenant", "xtenantid", "host", ":path", "x-routing-keys"],
                Place::Public
            )
            .is_empty()
        );
        assert_eq!(
            removed(&["x-tenant-id", "x-tenant-id"], Place::Protected),
            ["x-tenant-id"]
        );
    }
}
