//! hostPath, emptyDir, ConfigMap, Secret and service-account token volumes.

use integration::objects::{BUSYBOX, WHOAMI, add_container, pod, script};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::api::rbac::v1::RoleBinding;
use serde_json::json;

use crate::LAB;

#[test]
fn config_maps_and_secrets_are_files_and_environment() {
    LAB.run("config", async |_, ns| {
        ns.apply::<ConfigMap>(json!({ "metadata": { "name": "settings" }, "data": { "colour": "blue", "size": "9" } })).await?;
        ns.apply::<Secret>(json!({ "metadata": { "name": "password" }, "stringData": { "word": "sesame" } })).await?;
        let mut manifest = script("reader", "cd /config; cat colour size deeper/tint; echo; cat /secret/word; stat -L -c ' %a' /secret/word; grep ' /secret ' /proc/mounts | cut -d' ' -f3; echo $COLOUR $size $WORD");
        let container = &mut manifest["spec"]["containers"][0];
        container["volumeMounts"] = json!([{ "name": "config", "mountPath": "/config" }, { "name": "secret", "mountPath": "/secret", "readOnly": true }]);
        container["env"] = json!([
            { "name": "COLOUR", "valueFrom": { "configMapKeyRef": { "name": "settings", "key": "colour" } } },
            { "name": "WORD", "valueFrom": { "secretKeyRef": { "name": "password", "key": "word" } } },
            { "name": "NONE", "valueFrom": { "secretKeyRef": { "name": "no-such", "key": "word", "optional": true } } },
        ]);
        container["envFrom"] = json!([{ "configMapRef": { "name": "settings" } }]);
        manifest["spec"]["volumes"] = json!([
            { "name": "config", "configMap": { "name": "settings", "items": [
                { "key": "colour", "path": "colour" }, { "key": "size", "path": "size" }, { "key": "colour", "path": "deeper/tint" } ] } },
            { "name": "secret", "secret": { "secretName": "password", "defaultMode": 0o400 } },
        ]);
        ns.apply::<Pod>(manifest).await?;
        assert_eq!(ns.ended("reader").await?, "Succeeded");
        // A Secret's bytes are never on a disk.
        assert_eq!(ns.kubectl(&["logs", "reader"]).await?, "blue9blue\nsesame 400\ntmpfs\nblue 9 sesame\n");
        Ok(())
    });
}

#[test]
fn a_pod_talks_to_the_api_server_with_its_own_token() {
    LAB.run("token", async |_, ns| {
        ns.apply::<RoleBinding>(json!({
            "metadata": { "name": "view" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view" },
            "subjects": [{ "kind": "ServiceAccount", "name": "default" }],
        }))
        .await?;
        let path = format!("/api/v1/namespaces/{}/pods", ns.name());
        ns.apply::<Pod>(pod("client", json!({ "name": "main", "image": WHOAMI, "args": ["api", path] }), "OnFailure")).await?;
        assert_eq!(ns.ended("client").await?, "Succeeded");
        let log = ns.kubectl(&["logs", "client"]).await?;
        assert!(log.starts_with("200 OK\n") && log.contains("\"PodList\"") && log.contains("\"client\""), "{log}");
        ns.apply::<Pod>(script("files", "cd /var/run/secrets/kubernetes.io/serviceaccount; ls; cat namespace")).await?;
        assert_eq!(ns.ended("files").await?, "Succeeded");
        assert_eq!(ns.kubectl(&["logs", "files"]).await?, format!("ca.crt\nnamespace\ntoken\n{}", ns.name()));
        Ok(())
    });
}

#[test]
fn an_empty_dir_is_shared_in_the_pod_and_ends_with_it() {
    LAB.run("empty-dir", async |lab, ns| {
        let mount = json!([{ "name": "disk", "mountPath": "/disk" }, { "name": "memory", "mountPath": "/memory" }]);
        let writer = json!({ "name": "writer", "image": BUSYBOX, "command": ["sh", "-c", "echo one > /disk/file; echo two > /memory/file; sleep 1000"], "volumeMounts": mount });
        let reader = json!({ "name": "reader", "image": BUSYBOX, "volumeMounts": mount,
            "command": ["sh", "-c", "until cat /disk/file /memory/file 2>/dev/null; do sleep 0.1; done; grep ' /memory ' /proc/mounts | cut -d' ' -f3; sleep 1000"] });
        let mut manifest = pod("two", writer, "Always");
        add_container(&mut manifest, reader);
        manifest["spec"]["volumes"] = json!([{ "name": "disk", "emptyDir": {} }, { "name": "memory", "emptyDir": { "medium": "Memory" } }]);
        ns.apply::<Pod>(manifest).await?;
        let uid = ns.ready("two").await?.metadata.uid.unwrap_or_default();
        let look = async || {
            let log = ns.kubectl(&["logs", "two", "-c", "reader"]).await.map_err(|error| error.to_string())?;
            if log.ends_with("one\ntwo\ntmpfs\n") { Ok(()) } else { Err(log) }
        };
        lab.wait_for("the reader to see both files", integration::lab::PATIENCE, look).await?;
        let folder = lab.node(0).folder().join("var-lib/kubelet/pods").join(uid);
        assert!(folder.join("volumes/kubernetes.io~empty-dir/disk/file").exists(), "not where upstream keeps it: {}", folder.display());
        ns.delete_pod("two").await?;
        let gone = async || if folder.exists() { Err(format!("{} is still there", folder.display())) } else { Ok(()) };
        lab.wait_for("the pod's folder to be gone", integration::lab::PATIENCE, gone).await
    });
}

#[test]
fn a_host_path_is_the_nodes_own() {
    LAB.run("host-path", async |lab, ns| {
        let mut manifest = script("writer", "echo $(MY_NAME) > /host/made/file && cat /there/hosts | head -n 1");
        let container = &mut manifest["spec"]["containers"][0];
        container["env"] = json!([{ "name": "MY_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }]);
        container["volumeMounts"] =
            json!([{ "name": "new", "mountPath": "/host/made" }, { "name": "etc", "mountPath": "/there", "readOnly": true }]);
        manifest["spec"]["volumes"] = json!([
            { "name": "new", "hostPath": { "path": "/var/lib/made-by-the-pod", "type": "DirectoryOrCreate" } },
            { "name": "etc", "hostPath": { "path": "/etc", "type": "Directory" } },
        ]);
        ns.apply::<Pod>(manifest).await?;
        assert_eq!(ns.ended("writer").await?, "Succeeded");
        let written = std::fs::read_to_string(lab.node(0).folder().join("var-lib/made-by-the-pod/file")).unwrap_or_default();
        assert_eq!(written, "writer\n");
        Ok(())
    });
}
