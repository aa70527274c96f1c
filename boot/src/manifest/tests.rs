use super::*;
use bulkhead_manifest::{Expiry, OnExpiry, Role};

const GOOD: &str = r#"
# The web server and its helper.
[[guest]]
name = "web"
cores = 2
memory = "1 GiB"
kernel = { debian = "linux-image-cloud-amd64" }
initrd = { busybox = "init.sh" }
cmdline = "console=ttyS0 quiet"
owner = "Web team"
purpose = "The shop"
classification = "public"
expires = "2027-12-31"
on_expiry = "stop"
restart = "on-reset"
start = "by-hand"

[[guest]]
name = "probe"
cores = 0x1
memory = "16 MiB"
kernel = "probe.elf"
kind = "elf64"
owner = "Web team"
purpose = "Looks whether the shop is there"
classification = "internal"
expires = "never"
"#;

/// What every guest needs besides what it runs on.
const TENURE: [(&str, &str); 4] = [
    ("owner", "\"me\""),
    ("purpose", "\"a test\""),
    ("classification", "\"internal\""),
    ("expires", "\"never\""),
];

/// The same as lines of a manifest.
const TENURE_LINES: &str =
    "owner = \"me\"\npurpose = \"a test\"\nclassification = \"internal\"\nexpires = \"never\"\n";

fn parse(text: &str) -> Result<Manifest, ManifestError> {
    Manifest::parse(text, Path::new("/m/demo.toml"))
}

/// The messages for a manifest, without the path that each starts with.
fn messages(text: &str) -> Vec<String> {
    let error = parse(text).expect_err("a bad manifest");
    assert!(!error.problems().is_empty());
    let shown = error.to_string();
    shown
        .lines()
        .map(|line| line.strip_prefix("/m/demo.toml:").expect("the path").trim().to_owned())
        .collect()
}

/// The message for a guest whose key has been given another value, or lost where `value` is empty.
fn with(key: &str, value: &str) -> String {
    let guest =
        [("name", "\"web\""), ("cores", "1"), ("memory", "\"64 MiB\""), ("kernel", "\"vmlinuz\"")];
    let mut lines: Vec<_> =
        guest.iter().filter(|(k, _)| *k != key).map(|(k, v)| format!("{k} = {v}")).collect();
    if !value.is_empty() {
        lines.push(format!("{key} = {value}"));
    }
    // Behind the key, so that it stands where it would without them.
    lines.extend(TENURE.iter().filter(|(k, _)| *k != key).map(|(k, v)| format!("{k} = {v}")));
    let mut messages = messages(&format!("[[guest]]\n{}\n", lines.join("\n")));
    assert_eq!(messages.len(), 1, "{messages:?}");
    messages.remove(0)
}

#[test]
fn a_good_manifest() {
    let manifest = parse(GOOD).unwrap();
    let [web, probe] = manifest.guests() else { panic!("two guests") };
    assert_eq!((web.name.as_str(), &web.cores, web.memory), ("web", &Cores::Count(2), 1 << 30));
    assert_eq!(
        web.kernel.source,
        Source::Debian { package: "linux-image-cloud-amd64".into(), file: None }
    );
    assert_eq!(
        web.initrd.as_ref().unwrap().source,
        Source::Busybox { script: "/m/init.sh".into(), modules: None }
    );
    assert_eq!(web.command_line, "console=ttyS0 quiet");
    assert_eq!(
        (web.tenure.owner.as_str(), web.restart, web.start, web.kind),
        ("Web team", Restart::OnReset, Start::ByHand, None)
    );
    assert_eq!(
        (web.tenure.purpose.as_str(), web.tenure.classification.as_str()),
        ("The shop", "public")
    );
    assert_eq!(
        (web.tenure.expires.to_string().as_str(), web.tenure.on_expiry),
        ("2027-12-31", OnExpiry::Stop)
    );
    assert_eq!(probe.kernel.source, Source::File("/m/probe.elf".into()));
    assert_eq!(probe.cores, Cores::Count(1));
    assert_eq!((probe.kind, &probe.initrd), (Some(KernelKind::Elf64), &None));
    assert_eq!(
        (probe.command_line.as_str(), probe.restart, probe.start),
        ("", Restart::Never, Start::AtBoot)
    );
    assert_eq!((probe.tenure.expires, probe.tenure.on_expiry), (Expiry::Never, OnExpiry::Report));
    assert_eq!(
        (manifest.requirements().cores(), manifest.requirements().memory()),
        (3, (1 << 30) + (16 << 20))
    );
}

#[test]
fn one_of_several_kernels_in_a_package() {
    let text = GOOD.replace(
        "{ debian = \"linux-image-cloud-amd64\" }",
        "{ debian = \"memtest86+\", file = \"boot/memtest86+x64.bin\" }",
    );
    assert_eq!(
        parse(&text).unwrap().guests()[0].kernel.source,
        Source::Debian {
            package: "memtest86+".into(),
            file: Some("boot/memtest86+x64.bin".into())
        }
    );
}

#[test]
fn paths_start_at_the_manifest() {
    let text = GOOD.replace("probe.elf", "/boot/probe.elf");
    let kernel = |path: &str| {
        Manifest::parse(&text, Path::new(path)).unwrap().guests()[1].kernel.source.clone()
    };
    assert_eq!(kernel("demo.toml"), Source::File("/boot/probe.elf".into()));
    let kernel = |path: &str| {
        Manifest::parse(GOOD, Path::new(path)).unwrap().guests()[1].kernel.source.clone()
    };
    assert_eq!(kernel("demo.toml"), Source::File("probe.elf".into()));
    assert_eq!(kernel("a/demo.toml"), Source::File("a/probe.elf".into()));
}

#[test]
fn names_of_files_are_printable_and_short() {
    let name = |file: &str| Source::File(Path::new("/boot").join(file)).name();
    assert_eq!(name("vmlinuz"), "vmlinuz");
    assert_eq!(name("a\x1b[2Jb"), "a?[2Jb");
    assert_eq!(name(&"ä".repeat(200)).len(), 254);
}

#[test]
fn unknown_keys() {
    let keys = "the keys are name, cores, memory, kernel, kind, initrd, cmdline, owner, purpose, classification, \
         expires, on_expiry, restart, start, quarantine";
    assert_eq!(
        with("memroy", "1"),
        format!("6:1: guest \"web\": unknown key \"memroy\" (did you mean \"memory\"?); {keys}")
    );
    assert_eq!(
        with("initramfs", "1"),
        format!("6:1: guest \"web\": unknown key \"initramfs\" (did you mean \"initrd\"?); {keys}")
    );
    assert_eq!(with("colour", "1"), format!("6:1: guest \"web\": unknown key \"colour\"; {keys}"));
    // A key in quotes may hold anything; what is printed must not drive the terminal.
    assert_eq!(
        with(r#""\u001b[2J""#, "1"),
        format!(r#"6:1: guest "web": unknown key "\u{{1b}}[2J"; {keys}"#)
    );
    assert_eq!(
        messages(&format!("color = 1\n[machine]\n[guets]\n{GOOD}")),
        [
            "1:1: unknown key \"color\"; the tables of a manifest are [[guest]], [[operator]], [policy] and [[quota]]",
            "2:2: unknown table \"machine\"; the tables of a manifest are [[guest]], [[operator]], [policy] and [[quota]]",
            "3:2: unknown table \"guets\" (did you mean \"guest\"?); the tables of a manifest are [[guest]], [[operator]], [policy] and [[quota]]",
        ]
    );
}

#[test]
fn names() {
    let must = "must be 1 to 31 characters from a-z, 0-9 and '-', the first not '-', for example \"linux\"";
    assert_eq!(
        with("name", "\"Web Server\""),
        format!("5:8: guest 1: name = \"Web Server\": {must}")
    );
    assert_eq!(with("name", "7"), format!("5:8: guest 1: name = 7: {must}"));
    assert_eq!(
        with("name", ""),
        "1:1: guest 1: \"name\" is missing; write for example name = \"linux\""
    );
}

#[test]
fn two_guests_of_one_name() {
    assert_eq!(
        messages(&GOOD.replace("\"probe\"", "\"web\"")),
        ["19:8: guest \"web\": the guest in line 4 has this name too; names are unique"]
    );
    // Found even where the guest has other faults.
    let text = GOOD.replace("\"probe\"", "\"web\"").replace("0x1", "0");
    assert_eq!(messages(&text).len(), 2);
}

#[test]
fn cores() {
    for value in ["0", "-1", "64", "1.5", "\"two\"", "99999999999999999999"] {
        assert_eq!(
            with("cores", value),
            format!(
                "5:9: guest \"web\": cores = {value}: must be a whole number of cores, 1 to 63, for example 1, \
                 or a list of core numbers, for example [1, 2]"
            )
        );
    }
    for value in ["[1, \"2\"]", "[-1]", "[1.0]", "[[1]]"] {
        assert_eq!(
            with("cores", value),
            format!(
                "5:9: guest \"web\": cores = {value}: must be a list of core numbers, each 1 to 63, for example [1, 2]"
            )
        );
    }
    for value in ["[]", "[0]", "[1, 64]", "[2, 1, 2]"] {
        assert_eq!(
            with("cores", value),
            format!(
                "5:9: guest \"web\": cores = {value}: must be a list of core numbers, each 1 to 63 and there once, \
                 for example [1, 2]; core 0 is the hypervisor's own"
            )
        );
    }
    assert_eq!(
        with("cores", ""),
        "1:1: guest \"web\": \"cores\" is missing; write for example cores = 1"
    );
}

#[test]
fn cores_by_number() {
    let text = GOOD.replace("cores = 2", "cores = [3, 0x1]").replace("0x1\n", "[2]\n");
    let manifest = parse(&text).unwrap();
    let cores: Vec<_> = manifest.guests().iter().map(|guest| guest.cores.clone()).collect();
    assert_eq!(cores, [Cores::Numbers(vec![3, 1]), Cores::Numbers(vec![2])]);
    assert_eq!(manifest.requirements().cores(), 3);
}

#[test]
fn one_core_for_two_guests() {
    let text = GOOD.replace("cores = 2", "cores = [3, 1]").replace("0x1\n", "[2, 3]\n");
    let message = "20:9: guest \"probe\": cores = [2, 3]: core 3 is named by guest \"web\" in line 5 too; \
                   a core belongs to one guest";
    assert_eq!(messages(&text), [message]);
    // Found even where the guest has other faults.
    assert_eq!(messages(&text.replace("16 MiB", "16 MB")).len(), 2);
}

#[test]
fn memory() {
    for (value, must) in [
        ("\"129 MiB\"", "a multiple of 2 MiB from 4 MiB to 512 GiB, for example \"130 MiB\""),
        ("\"100 MB\"", "in MiB, GiB or TiB, for example \"100 MiB\""),
        ("128", "a string such as \"128 MiB\" or \"1 GiB\""),
    ] {
        assert_eq!(
            with("memory", value),
            format!("5:10: guest \"web\": memory = {value}: must be {must}")
        );
    }
    assert_eq!(
        with("memory", ""),
        "1:1: guest \"web\": \"memory\" is missing; write for example memory = \"128 MiB\""
    );
}

#[test]
fn kernels() {
    let must = "must be a path such as \"vmlinuz\", or { debian = \"PACKAGE\" } for the kernel of a Debian package";
    for value in [
        "1",
        "\"\"",
        "{ ubuntu = \"linux\" }",
        "{ debian = 1 }",
        "{ debian = \"a\", and = \"b\" }",
        "{}",
    ] {
        assert_eq!(with("kernel", value), format!("5:10: guest \"web\": kernel = {value}: {must}"));
    }
    let must = "must be the name of a Debian package: a-z, 0-9, '+', '-' and '.', \
                for example { debian = \"linux-image-cloud-amd64\" }";
    for package in ["", "-o", "../x", "a b", "Linux"] {
        let value = format!("{{ debian = \"{package}\" }}");
        assert_eq!(
            with("kernel", &value),
            format!("5:10: guest \"web\": kernel = {value}: {must}")
        );
    }
    for file in ["", "/boot/a", "boot/../a", "..", "boot//a", "a\\u0000"] {
        let value = format!("{{ debian = \"memtest86+\", file = \"{file}\" }}");
        let must = "a path within the package, for example { debian = \"memtest86+\", \
                    file = \"boot/memtest86+x64.bin\" }";
        assert_eq!(
            with("kernel", &value),
            format!("5:10: guest \"web\": kernel = {value}: must be {must}")
        );
    }
    assert_eq!(
        with("kernel", ""),
        "1:1: guest \"web\": \"kernel\" is missing; \
         write for example kernel = { debian = \"linux-image-cloud-amd64\" }"
    );
}

#[test]
fn the_other_keys() {
    let long = "x".repeat(2048);
    for (key, value, must) in [
        ("kind", "\"pe\"", "\"bzimage\" or \"elf64\" or \"pvh\" or \"multiboot\""),
        (
            "initrd",
            "{ script = \"x\" }",
            "a path such as \"initrd.img\", or { busybox = \"SCRIPT\" } for an initramfs with busybox that runs a script, with modules = [\"NAME\", …] for modules of the kernel's",
        ),
        ("cmdline", "[\"quiet\"]", "a string of at most 2047 bytes, none of them NUL"),
        ("cmdline", r#""a\u0000b""#, "a string of at most 2047 bytes, none of them NUL"),
        (
            "owner",
            r#""\u001b[2J""#,
            "a string of 1 to 63 bytes without control characters, for example \"Web team\"",
        ),
        (
            "classification",
            "\"Top secret\"",
            "a string of 1 to 31 characters from a-z, 0-9 and '-', the first not '-', for example \"internal\"",
        ),
        (
            "expires",
            "\"2027-02-29\"",
            "the last day that it is needed, as in \"2027-12-31\", or \"never\"",
        ),
        (
            "expires",
            "2027-02-28",
            "the last day that it is needed, as in \"2027-12-31\", or \"never\"",
        ),
        ("on_expiry", "\"kill\"", "\"report\" or \"stop\""),
        ("restart", "true", "\"never\" or \"on-reset\" or \"on-fault\" or \"always\""),
        ("restart", "\"often\"", "\"never\" or \"on-reset\" or \"on-fault\" or \"always\""),
        ("start", "false", "\"at-boot\" or \"by-hand\""),
    ] {
        let column = key.len() + 4;
        assert_eq!(
            with(key, value),
            format!("6:{column}: guest \"web\": {key} = {value}: must be {must}")
        );
    }
    assert_eq!(
        with("cmdline", &format!("\"{long}\"")),
        format!(
            "6:11: guest \"web\": cmdline = \"{}…: must be a string of at most 2047 bytes, none of them NUL",
            &long[..59]
        )
    );
}

#[test]
fn no_guest_at_all() {
    let message = "no guest; a manifest needs at least one [[guest]]";
    assert_eq!(messages(""), [message]);
    assert_eq!(messages("guest = []"), [format!("1:9: {message}")]);
    assert_eq!(
        messages("[guest]\nname = \"a\""),
        ["1:1: write [[guest]] in double brackets, one for each guest"]
    );
    assert_eq!(
        messages("guest = [1]"),
        ["1:10: a guest is a table; write [[guest]] and its keys below"]
    );
}

#[test]
fn everything_wrong_is_told_at_once_in_the_order_of_lines() {
    let text = format!(
        "[[guest]]\nname = \"a\"\nram = 1\ncores = 0\nmemory = \"1 MB\"\nkernel = 3\n{TENURE_LINES}\
         [[guest]]\nname = \"b\"\n{TENURE_LINES}"
    );
    let lines: Vec<_> =
        messages(&text).iter().map(|m| m.split(':').next().unwrap().to_owned()).collect();
    assert_eq!(lines, ["3", "4", "5", "6", "11", "11", "11"]);
}

#[test]
fn syntax() {
    let message = messages("[[guest]]\nname = web\n").remove(0);
    assert!(message.starts_with("2:8: not valid TOML: "), "{message}");
    let message = messages("[[guest]]\nname = \"a\"\nname = \"b\"\n").remove(0);
    assert_eq!(message, "3:1: not valid TOML: duplicate key");
}

#[test]
fn a_manifest_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.toml");
    let message = Manifest::read(&path).unwrap_err().to_string();
    assert_eq!(
        message,
        format!(
            "{}: the manifest cannot be read: No such file or directory (os error 2)",
            path.display()
        )
    );
    std::fs::write(&path, b"name = \"\xFF\"").unwrap();
    let message = Manifest::read(&path).unwrap_err().to_string();
    assert_eq!(
        message,
        format!("{}: not a text file: byte 8 is not UTF-8; a manifest is TOML", path.display())
    );
    std::fs::write(&path, GOOD).unwrap();
    assert_eq!(Manifest::read(&path).unwrap().guests().len(), 2);
}

#[test]
fn machines() {
    let manifest = parse(GOOD).unwrap();
    assert_eq!(manifest.check_machine(4, 1040 << 20), Ok(()));
    assert_eq!(
        manifest.check_machine(3, 2 << 30).unwrap_err().to_string(),
        "the guests need 3 cores (web 2, probe 1) besides the service core's, this machine has 3: \
         2 left for guests; give them fewer, or use a machine with at least 4"
    );
    assert_eq!(
        manifest.check_machine(4, 1 << 30).unwrap_err().to_string(),
        "the guests need 1040 MiB of memory (web 1 GiB, probe 16 MiB), this machine has 1 GiB for guests; \
         give them less"
    );
    assert!(
        manifest
            .check_machine(1, u64::MAX)
            .unwrap_err()
            .to_string()
            .starts_with("this machine has one core only")
    );
}

#[test]
fn no_text_makes_parsing_panic() {
    for end in (0..GOOD.len()).filter(|&end| GOOD.is_char_boundary(end)) {
        let _ = parse(&GOOD[..end]);
    }
    for at in 0..GOOD.len() {
        for with in ["\"", "[", "]", "=", "{", "\n", "\0", "é", "#", "0"] {
            let _ = parse(&format!("{}{with}{}", &GOOD[..at], &GOOD[at + 1..]))
                .map_err(|error| error.to_string());
        }
    }
}

/// The reference must name every key, and its examples must be manifests.
#[test]
fn the_reference_is_true() {
    let reference = include_str!("../../../docs/manifest.md");
    for key in guest::KEYS {
        assert!(
            reference.contains(&format!("\n| `{key}` |")),
            "docs/manifest.md lacks the key {key}"
        );
    }
    for rule in [
        limits::NAME_RULE,
        limits::CORES_RULE,
        limits::MEMORY_RULE,
        limits::COMMAND_LINE_RULE,
        limits::OWNER_RULE,
        limits::PURPOSE_RULE,
        limits::EXPIRY_RULE,
    ] {
        assert!(reference.contains(rule), "docs/manifest.md lacks the rule: {rule}");
    }
    let mut examples = 0;
    for example in reference.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next())
    {
        parse(example).unwrap_or_else(|error| panic!("an example of docs/manifest.md:\n{error}"));
        examples += 1;
    }
    assert!(examples >= 2);
}

#[test]
fn operators_are_read() {
    let hash = "$argon2id$v=19$m=1024,t=1,p=1$c2l4dGVlbiBieXRlcy4uLg$\
                AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let operator = |name: &str, role: &str, password: &str| {
        format!("[[operator]]\nname = \"{name}\"\nrole = \"{role}\"\npassword = \"{password}\"\n")
    };
    let with = |operators: &str| format!("{GOOD}\n{operators}");
    let good = operator("anna", "administrator", hash) + &operator("vera", "viewer", hash);
    let manifest = parse(&with(&good)).unwrap();
    let [anna, vera] = manifest.operators() else { panic!("two operators") };
    assert_eq!((anna.name.as_str(), anna.role), ("anna", Role::Administrator));
    assert_eq!((vera.name.as_str(), vera.role, vera.hash.as_str()), ("vera", Role::Viewer, hash));
    assert!(parse(GOOD).unwrap().operators().is_empty());

    let one = |operators: &str| {
        let mut messages = messages(&with(operators));
        assert_eq!(messages.len(), 1, "{messages:?}");
        messages.remove(0)
    };
    let twice = one(&(operator("anna", "viewer", hash) + &operator("anna", "viewer", hash)));
    assert!(twice.ends_with("has this name too; names are unique"), "{twice}");
    let role = one(&operator("anna", "root", hash));
    assert!(
        role.ends_with("role = \"root\": must be \"viewer\" or \"operator\" or \"administrator\""),
        "{role}"
    );
    // A password in the place of its hash is not repeated.
    let plain = one(&operator("anna", "viewer", "plum tractor 9 lanterns"));
    assert!(plain.contains("operator \"anna\": password must be the hash that `cargo xtask passwd NAME` prints: it has not the form"), "{plain}");
    assert!(!plain.contains("plum"), "{plain}");
    let cheap = one(&operator("anna", "viewer", &hash.replace("m=1024", "m=8")));
    assert!(cheap.contains("it has m=8,t=1,p=1; m is 1024 to 65536"), "{cheap}");
    let missing = one("[[operator]]\nname = \"anna\"\nrole = \"viewer\"\n");
    assert!(missing.contains("\"password\" is missing"), "{missing}");
    let name = one(&operator("Anna", "viewer", hash));
    assert!(name.contains("operator 1: name = \"Anna\": must be 1 to 31 characters"), "{name}");
    assert!(
        one("[operator]\nname = \"anna\"\n")
            .ends_with("write [[operator]] in double brackets, one for each operator")
    );
    let hint = one("[[operators]]\nname = \"anna\"\n");
    assert!(hint.contains("(did you mean \"operator\"?)"), "{hint}");
}

#[test]
fn policy_and_quotas_are_kept() {
    let with = |tables: &str| format!("{GOOD}\n{tables}");
    let policy = "[policy]\nclasses = [\"public\", \"internal\", \"secret\"]\n\
                  together = [[\"public\", \"internal\"]]\n";
    let quota = "[[quota]]\nowner = \"Web team\"\ncores = 3\nmemory = \"2 GiB\"\nguests = 2\n";
    let manifest = parse(&with(&format!("{policy}{quota}"))).unwrap();
    assert_eq!(manifest.policy().unwrap().together, [0b011]);
    assert_eq!(
        manifest.quotas(),
        [Quota {
            owner: "Web team".into(),
            cores: Some(3),
            memory: Some(2 << 30),
            guests: Some(2)
        }]
    );
    let one = |tables: &str| {
        let mut messages = messages(&with(tables));
        assert_eq!(messages.len(), 1, "{messages:?}");
        messages.remove(0)
    };
    let apart = one("[policy]\nclasses = [\"public\", \"internal\"]\n");
    assert_eq!(
        apart,
        "26:18: guests \"web\" (public) and \"probe\" (internal) may not be on one machine: policy: \
         no set of together has both \"public\" and \"internal\""
    );
    let unknown = one("[policy]\nclasses = [\"public\"]\n");
    assert!(
        unknown.contains(
            "guest \"probe\": classification = \"internal\": the policy's classes are public"
        ),
        "{unknown}"
    );
    let set = one(
        "[policy]\nclasses = [\"public\", \"internal\"]\ntogether = [[\"public\", \"secret\"]]\n",
    );
    assert!(
        set.contains("together = [[\"public\", \"secret\"]]: must be a list of at most 32 sets"),
        "{set}"
    );
    let few = one(&quota.replace("cores = 3", "cores = 2"));
    assert!(few.ends_with("guest \"probe\" is too much for its owner \"Web team\": 3 cores would be in use, and the quota is 2 cores"), "{few}");
    assert!(
        one("[[quota]]\nowner = \"x\"\n")
            .ends_with("quota of \"x\" limits nothing; give it cores, memory or guests")
    );
    assert!(
        one("[[policy]]\nclasses = []\n")
            .ends_with("write [policy] in single brackets; a manifest has one at the most")
    );
    assert!(
        one("[quota]\nowner = \"x\"\n")
            .ends_with("write [[quota]] in double brackets, one for each owner")
    );
    assert!(
        one("[[quota]]\nowner = \"x\"\ncores = \"2\"\n")
            .ends_with("quota 1: cores = \"2\": must be a whole number, for example 4")
    );
}

#[test]
fn a_guest_that_nobody_answers_for_is_refused() {
    for (key, line) in [
        ("owner", "owner = \"Web team\""),
        ("purpose", "purpose = \"The shop's database\""),
        ("classification", "classification = \"internal\""),
        ("expires", "expires = \"2027-12-31\""),
    ] {
        let expected =
            format!("1:1: guest \"web\": \"{key}\" is missing; write for example {line}");
        assert_eq!(with(key, ""), expected);
    }
}

#[test]
fn modules_come_from_the_package_of_the_kernel() {
    let read = |kernel: &str, modules: &str| {
        let text = format!(
            "[[guest]]\nname = \"web\"\ncores = 1\nmemory = \"16 MiB\"\n{TENURE_LINES}\n\
             kernel = {kernel}\ninitrd = {{ busybox = \"init\", modules = {modules} }}\n"
        );
        parse(&text)
    };
    let debian = "{ debian = \"linux-image-cloud-amd64\" }";
    let manifest = read(debian, "[\"button\", \"snd_hda-intel\"]").unwrap();
    let initrd = &manifest.guests()[0].initrd.as_ref().unwrap().source;
    let modules = Modules {
        package: "linux-image-cloud-amd64".into(),
        names: vec!["button".into(), "snd_hda-intel".into()],
    };
    assert_eq!(initrd, &Source::Busybox { script: "/m/init".into(), modules: Some(modules) });
    let said = |kernel: &str, modules: &str| read(kernel, modules).unwrap_err().to_string();
    let names = "a list of names of modules, each 1 to 63 characters from a-z, 0-9, '_' and '-'";
    for modules in ["[]", "\"button\"", "[1]", "[\"../x\"]", "[\"button.ko\"]"] {
        let said = said(debian, modules);
        assert!(said.contains(&format!("must be one whose modules are {names}")), "{said}");
    }
    let said = said("\"vmlinuz\"", "[\"button\"]");
    assert!(said.contains("must be without modules, or beside kernel = { debian = "), "{said}");
}

#[test]
fn what_puts_a_guest_into_quarantine() {
    let read = |value: &str| {
        let text = format!(
            "[[guest]]\nname = \"web\"\ncores = 1\nmemory = \"16 MiB\"\nkernel = \"k\"\n\
             {TENURE_LINES}\nquarantine = {value}\n"
        );
        parse(&text).map(|manifest| manifest.guests()[0].suspicion)
    };
    let both = Suspicion { denied: Some(100), fault: true };
    assert_eq!(read("{ denied = 100, fault = true }").unwrap(), both);
    let fault = Suspicion { denied: None, fault: true };
    assert_eq!(read("{ fault = true }").unwrap(), fault);
    assert_eq!(read("{}").unwrap(), Suspicion::default());
    for value in
        ["{ denied = 0 }", "{ denied = \"x\" }", "{ fault = 1 }", "{ faults = true }", "true"]
    {
        let said = read(value).unwrap_err().to_string();
        let must = "must be { denied = N } for more than N denied accesses in a second, N from 1";
        assert!(said.contains(must), "{said}");
    }
}
