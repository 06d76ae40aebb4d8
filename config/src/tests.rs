use super::*;
use serde::Deserialize;

#[derive(Default, Deserialize, PartialEq, Debug)]
#[serde(default, deny_unknown_fields)]
struct Config {
    tcp: Tcp,
}

#[derive(Deserialize, PartialEq, Debug)]
#[serde(default, deny_unknown_fields)]
struct Tcp {
    sack: bool,
}

impl Default for Tcp {
    fn default() -> Tcp {
        Tcp { sack: true }
    }
}

impl Sections for Config {
    const NAMES: &'static [&'static str] = &["tcp"];

    fn validate(&self) -> Result<(), Invalid> {
        Ok(())
    }
}

#[test]
fn sections_of_others_are_passed_over() {
    let text = "udp.receive-buffer = \"a lot\"\n[tcp]\nsack = false\n[dpdk]\nno-such-key = 1\n";
    assert!(!Config::from_text(text).unwrap().tcp.sack);
    // A place is that in the whole text.
    let error = Config::from_text("[udp]\nany = 1\n[tcp]\nsack = 1\n[dpdk]\n").unwrap_err();
    assert_eq!(error.to_string(), "line 4: tcp.sack: found integer `1`, expected true or false");
}

#[test]
fn a_section_of_nobody_is_refused() {
    let error = Config::from_text("[tcp]\nsack = false\n[tpc]\nsack = false\n").unwrap_err().to_string();
    assert!(
        error.starts_with("line 3: tpc: found a key that there is not, expected one of `network`, "),
        "{error}"
    );
}

#[test]
fn what_is_not_toml_is_refused_with_the_line() {
    let error = Config::from_text("[tcp]\nsack = \n").unwrap_err();
    let ConfigError::Syntax { place, .. } = &error else { panic!("{error}") };
    assert_eq!(*place, Place { file: None, line: 2 });
    let twice = Config::from_text("[udp]\nreceive-buffer = 4096\nreceive-buffer = 4096\n").unwrap_err();
    assert_eq!(twice.to_string(), "line 3: duplicate key");
}

#[test]
fn the_argument_wins_over_the_variable() {
    let directory = std::env::temp_dir().join(format!("demikernel-config-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("demikernel.toml");
    fs::write(&file, "[tcp]\nsack = false\n").unwrap();
    let read: Config = from_variable(Some(file.as_os_str())).unwrap();
    assert!(!read.tcp.sack);
    assert_eq!(Config::load(Some(&file)).unwrap(), read);
    assert_eq!(from_variable::<Config>(None).unwrap(), Config::default());
    assert_eq!(from_variable::<Config>(Some("".as_ref())).unwrap(), Config::default());
    fs::write(&file, "\ntcp.sack = 0\n").unwrap();
    let error = Config::from_file(&file).unwrap_err().to_string();
    let expected = format!("{}:2: tcp.sack: found integer `0`, expected true or false", file.display());
    assert_eq!(error, expected);
    fs::remove_dir_all(&directory).unwrap();
    let error = Config::from_file(&file).unwrap_err().to_string();
    assert_eq!(error, format!("cannot read {}: No such file or directory (os error 2)", file.display()));
}
