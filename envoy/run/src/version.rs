//! Which Envoy it is.

use std::path::Path;
use std::process::Command;

use anyhow::Context;
use semver::Version;

/// The version that an Envoy program says it is.
///
/// # Errors
/// When it does not run, or says nothing of the kind.
pub fn envoy_version(program: &Path) -> anyhow::Result<Version> {
    let said = Command::new(program).arg("--version").output();
    let said = said.with_context(|| format!("{} does not run", program.display()))?;
    of_banner(&String::from_utf8_lossy(&said.stdout))
}

/// Reads `…/envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`.
fn of_banner(banner: &str) -> anyhow::Result<Version> {
    let (_, build) = banner.split_once("version: ").unwrap_or_default();
    let version = build.split('/').nth(1).and_then(|version| Version::parse(version).ok());
    version.with_context(|| format!("`{}` names no version of Envoy", banner.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_banner_names_a_version_or_is_none() {
        let banner = "\ntarget/envoy/1.36.4/envoy  version: bad8280de85c25b1/1.36.4/Clean/RELEASE/BoringSSL\n\n";
        assert_eq!(of_banner(banner).expect("it is one"), Version::new(1, 36, 4));
        let of_a_branch = of_banner("envoy  version: 0/1.41.0-dev/Modified/DEBUG/BoringSSL").expect("it is one");
        assert!(of_a_branch < Version::new(1, 41, 0) && of_a_branch > Version::new(1, 40, 9));
        for other in ["", "envoy", "envoy  version: 0/x/Clean"] {
            assert!(of_banner(other).is_err(), "{other}");
        }
    }
}
