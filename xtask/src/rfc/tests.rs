use super::*;

const TABLE: &str = "\
# RFC 9293: Transmission Control Protocol.

[[requirement]]
id = \"MUST-13\"
level = \"MUST\"
section = \"3.6.1\"
text = \"TIME-WAIT lasts for two segment lifetimes\"

[[requirement]]
id = \"SHLD-1\"
level = \"SHOULD\"
section = \"3.9.1\"
text = \"something\"
";

fn rfc(text: &str) -> Result<Rfc> {
    Rfc::parse(Path::new("net/rfc/rfc9293.toml"), text)
}

fn report() -> Report {
    Report { rfcs: vec![rfc(TABLE).unwrap()], findings: Vec::new() }
}

fn lines(text: &str, place: Place) -> Vec<(usize, bool, &str)> {
    tags(text, place).iter().map(|found| (found.line, found.is_test, found.text)).collect()
}

#[test]
fn tags_are_found_in_comments_of_code_and_anywhere_in_tests() {
    let source = "\
/// Waits. [rfc9293 MUST-13] [rfc1337 3-F1]
fn wait() {
    print(\"[rfc9293 no-comment]\"); // [rfc9293 SHLD-1]: so be it
    table[rfc];
}

#[cfg(test)]
mod tests {
    /// [rfc9293 MUST-13]
    #[test]
    fn waits() {
        check(\"a name [rfc9293 SHLD-1]\");
    }
}

// [rfc6298 2.1]
";
    let expected = [
        (1, false, "rfc9293 MUST-13"),
        (1, false, "rfc1337 3-F1"),
        (3, false, "rfc9293 SHLD-1"),
        (9, true, "rfc9293 MUST-13"),
        (12, true, "rfc9293 SHLD-1"),
        (16, false, "rfc6298 2.1"),
    ];
    assert_eq!(lines(source, Place::Code), expected);
    assert!(lines(source, Place::Test).iter().all(|(_, is_test, _)| *is_test));
    assert!(lines(source, Place::Neither).iter().all(|(_, is_test, _)| *is_test));
}

#[test]
fn what_only_tests_have_ends_where_it_ends() {
    let cases: [(&str, &[usize]); 6] = [
        ("#[cfg(test)]\nmod tests;\nmod code;\n", &[1, 2]),
        ("#[cfg(all(test, unix))]\nmod tests {\n}\nmod code;\n", &[1, 2, 3]),
        ("struct S {\n    #[cfg(test)]\n    count: u8,\n    more: u8,\n}\n", &[2, 3]),
        ("    #[cfg(test)]\n    #[inline]\n    fn f() {\n    }\n    fn g() {}\n", &[1, 2, 3, 4]),
        ("#[cfg(test)]\nfn f(\n    a: u8,\n) {\n    a;\n}\nfn g() {}\n", &[1, 2, 3, 4, 5, 6]),
        ("#[cfg(not(test))]\nmod code {\n}\n", &[]),
    ];
    for (text, expected) in cases {
        let marked = test_lines(text).into_iter().zip(1..).filter(|(mark, _)| *mark);
        assert_eq!(marked.map(|(_, line)| line).collect::<Vec<_>>(), expected, "{text}");
    }
}

#[test]
fn a_place_is_told_by_its_path() {
    for (path, place) in [
        ("net/src/tcp/send.rs", Place::Code),
        ("net/src/wire/tests.rs", Place::Test),
        ("net/src/tcp/tests/pair.rs", Place::Test),
        ("net/tests/tap.rs", Place::Test),
        ("net/fuzz/targets/wire.rs", Place::Test),
        ("net/benches/echo.rs", Place::Neither),
    ] {
        assert_eq!(place_of(Path::new(path)), place, "{path}");
    }
}

#[test]
fn modules_that_are_declared_for_tests_are_tests() {
    let text = "mod code;\n#[cfg(test)]\nmod vectors;\n#[cfg(test)]\npub(crate) mod pair;\n";
    let paths = |file: &str| test_modules(Path::new(file), text);
    let expected = ["a/vectors", "a/vectors.rs", "a/pair", "a/pair.rs"].map(PathBuf::from);
    assert_eq!(paths("a/mod.rs"), expected);
    assert_eq!(paths("a/lib.rs"), expected);
    assert_eq!(paths("a.rs"), expected);
}

#[test]
fn a_tag_that_no_table_knows_is_a_finding_with_its_place() {
    let cases = [
        ("rfc9293 MUST-13", None),
        ("rfc9293 MUST-14", Some("[rfc9293 MUST-14]: net/rfc/rfc9293.toml has no \"MUST-14\"")),
        ("rfc793 3", Some("[rfc793 3]: there is no net/rfc/rfc793.toml")),
        ("rfc9293", Some("[rfc9293] is not an RFC and one id")),
        ("rfc9293 MUST-13, SHLD-1", Some("[rfc9293 MUST-13, SHLD-1] is not an RFC and one id")),
        ("rfc9293  MUST-13", Some("[rfc9293  MUST-13] is not an RFC and one id")),
    ];
    for (text, expected) in cases {
        let mut report = report();
        report.take("net/src/a.rs", &Found { line: 7, is_test: false, text });
        let expected: Vec<_> = expected.iter().map(|what| format!("net/src/a.rs:7: {what}")).collect();
        assert_eq!(report.findings, expected);
    }
}

#[test]
fn what_is_implemented_and_tested_is_counted_and_the_rest_listed() {
    let mut report = report();
    assert_eq!(report.rfcs[0].count(Level::Must), Count { known: 1, implemented: 0, tested: 0 });
    for (is_test, text) in [(false, "rfc9293 MUST-13"), (true, "rfc9293 SHLD-1"), (false, "rfc9293 MUST-13")]
    {
        report.take("a.rs", &Found { line: 1, is_test, text });
    }
    assert_eq!(report.rfcs[0].count(Level::Must), Count { known: 1, implemented: 1, tested: 0 });
    assert_eq!(report.rfcs[0].count(Level::Should), Count { known: 1, implemented: 0, tested: 1 });
    assert_eq!(report.rfcs[0].count(Level::May), Count::default());
    let table = report.table();
    let row: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row.join(" "), "rfc9293 1 1 0 1 0 1 - Transmission Control Protocol");
    let expected = "\
rfc9293 MUST-13, MUST of section 3.6.1, not tested: TIME-WAIT lasts for two segment lifetimes
rfc9293 SHLD-1, SHOULD of section 3.9.1, not implemented: something
";
    assert_eq!(report.missing(), expected);
    report.take("a.rs", &Found { line: 1, is_test: true, text: "rfc9293 MUST-13" });
    assert_eq!(report.missing().lines().count(), 1);
}

#[test]
fn a_bad_table_is_refused_with_the_requirement() {
    let error = |text: &str| rfc(text).unwrap_err().to_string();
    let with = |line: &str| {
        let good = ["id = 'A'", "level = 'MUST'", "section = '1'", "text = 'x'"];
        let key = line.split(' ').next().unwrap();
        let rest = good.iter().filter(|good| good.split(' ').next() != Some(key));
        let rest = rest.copied().collect::<Vec<_>>().join("\n");
        format!("[[requirement]]\n{rest}\n{line}\n")
    };
    assert!(rfc(&with("text = 'y'")).is_ok());
    for (text, expected) in [
        (String::new(), "no [[requirement]]"),
        ("[requirements]".to_owned(), "unknown key `requirements`, expected [[requirement]]"),
        (with("id = 1"), "a requirement has no `id`"),
        (with("id = 'A B'"), "id \"A B\" is not a word that a tag can hold"),
        (with("level = 'must'"), "the level of \"A\" is \"must\", expected MUST, SHOULD or MAY"),
        (with("section = ''"), "\"A\" has no `section`"),
        (with("txt = 'x'"), "unknown key `txt` of \"A\", expected id, level, section, text"),
        (with("text = 'x'").repeat(2), "\"A\" is there twice"),
    ] {
        assert_eq!(error(&text), expected);
    }
    let misnamed = Rfc::parse(Path::new("net/rfc/tcp.toml"), TABLE).unwrap_err();
    assert_eq!(misnamed.to_string(), "tcp.toml is not called rfcNNNN.toml");
}

#[test]
fn numbers_are_taken_with_and_without_the_word() {
    for text in ["9293", "rfc9293", "RFC9293"] {
        assert_eq!(parse_number(text).unwrap(), 9293);
    }
    for text in ["", "rfc", "tcp", "ärfc1"] {
        assert!(parse_number(text).is_err(), "{text}");
    }
}
