use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;

use super::*;

const GOOD: &str = "
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: 'https://10.0.0.1:6443', certificate-authority: ca.crt}}]
users: [{name: u, user: {client-certificate: node.pem, client-key: node.pem}}]
";

fn dir() -> TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["node".to_owned()]).expect("certificate");
    fs::write(dir.path().join("ca.crt"), cert.pem()).expect("written");
    fs::write(dir.path().join("node.pem"), cert.pem() + &signing_key.serialize_pem()).expect("written");
    fs::write(dir.path().join("empty.pem"), "no PEM here").expect("written");
    dir
}

fn try_with(text: &str) -> Result<Access, String> {
    let dir = dir();
    let file = dir.path().join("kubelet.conf");
    fs::write(&file, text).expect("written");
    load(&file).map_err(|e| e.to_string().replace(&dir.path().display().to_string(), "DIR"))
}

#[test]
fn reads_certificates_relative_to_the_file() {
    let access = try_with(GOOD).expect("good");
    assert_eq!(access.server, "https://10.0.0.1:6443/");
    assert_eq!(access.ca.len(), 1);
    assert!(access.ca_source.ends_with("ca.crt"));
    let files = access.identity.and_then(|identity| identity.files).expect("files");
    assert!(files.certificate == files.key && files.key.ends_with("node.pem") && access.token.is_none());
}

#[test]
fn reads_tokens_and_inline_data() {
    let ca = k8s_openapi::ByteString(fs::read(dir().path().join("ca.crt")).expect("read"));
    let data = serde_json::to_string(&ca).expect("base64");
    let text = GOOD
        .replace("certificate-authority: ca.crt", &format!("certificate-authority-data: {data}"))
        .replace("{client-certificate: node.pem, client-key: node.pem}", "{token: abc}");
    let access = try_with(&text).expect("good");
    assert_eq!(access.ca_source, "certificate-authority-data");
    assert_eq!(access.token, Some(Token::Fixed("abc".into())));
    assert_eq!(format!("{:?}", access.token), "Some(Fixed(…))");
}

#[test]
fn each_mistake_gives_one_line_that_names_file_and_cure() {
    let table = [
        ("current-context: here", "current-context: ''", "has no current-context"),
        ("current-context: here", "current-context: there", "names context \"there\", but the file has none"),
        ("{cluster: c,", "{cluster: d,", "context \"here\" names cluster \"d\""),
        ("user: u}", "user: v}", "context \"here\" names user \"v\""),
        ("https://10.0.0.1:6443", "http://10.0.0.1:6443", "which is not an https URL"),
        ("'https://10.0.0.1:6443'", "''", "has server \"\""),
        ("certificate-authority: ca.crt", "certificate-authority: none.crt", "certificate-authority DIR/none.crt can't be read"),
        ("certificate-authority: ca.crt", "certificate-authority: empty.pem", "no certificate in it"),
        ("certificate-authority: ca.crt", "insecure-skip-tls-verify: true", "insecure-skip-tls-verify of cluster \"c\" is not supported"),
        ("certificate-authority: ca.crt", "certificate-authority-data: '%%%'", "is not a valid kubeconfig"),
        ("client-key: node.pem", "client-key: gone.pem", "client-key DIR/gone.pem can't be read"),
        ("client-key: node.pem", "client-key: ca.crt", "no private key in it"),
        (", client-key: node.pem", "", "has a client-certificate but no client-key"),
        ("{client-certificate: node.pem, client-key: node.pem}", "{exec: {command: aws}}", "exec of user \"u\" is not supported"),
        ("current-context: here", "current-context: [here", "is not a valid kubeconfig"),
    ];
    for (from, to, want) in table {
        assert!(GOOD.contains(from), "{from}");
        let error = try_with(&GOOD.replace(from, to)).map(|_| ()).expect_err(want);
        assert!(error.contains(want), "{error}\nlacks {want}");
        assert!(error.starts_with("kubeconfig DIR/kubelet.conf: ") && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_missing_file_says_how_to_get_one() {
    let error = load(Path::new("/nowhere/kubelet.conf")).map(|_| ()).expect_err("missing");
    assert!(error.to_string().starts_with("kubeconfig /nowhere/kubelet.conf: can't be read: No such file"), "{error}");
}

#[test]
fn a_pod_of_the_cluster() {
    let error = in_cluster(|_| None).unwrap_err().to_string();
    assert!(error.contains("this is none; name a kubeconfig with --kubeconfig"), "{error}");
    let variable = |name: &str| Some(if name.ends_with("HOST") { "fd00::1" } else { "443" }.to_owned());
    let error = in_cluster_at(Path::new("/nowhere/serviceaccount"), variable).unwrap_err().to_string();
    assert!(error.contains("serviceaccount/ca.crt can't be read"), "{error}");
}
