"""The README shows the examples as they are, and names only files that exist."""

import re
import textwrap
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Documents(unittest.TestCase):
    def test_yaml_in_the_readme_stands_in_the_example_named_before_it(self):
        readme = (ROOT / "README.md").read_text()
        blocks = re.findall(r"\]\((examples/[^)]+)\)(?:(?!```).)*?```yaml\n(.*?)```", readme, re.DOTALL)
        self.assertEqual([name for name, _ in blocks], ["examples/envoy-minimal.yaml", "examples/istio-wasmplugin.yaml"])
        for name, block in blocks:
            example = (ROOT / name).read_text()
            first = block.splitlines()[0]
            indent = re.search(rf"^( *){re.escape(first)}$", example, re.MULTILINE)
            self.assertIsNotNone(indent, f"{name} does not hold `{first}`")
            self.assertIn(textwrap.indent(block, indent.group(1)), example, f"README.md shows another {name}")

    def test_links_lead_to_files(self):
        for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
            text = document.read_text()
            for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)|src=\"([^\"]+)\"", text):
                path = link[0] or link[1]
                self.assertTrue((document.parent / path).exists(), f"{document.name} links to {path}")


if __name__ == "__main__":
    unittest.main()
