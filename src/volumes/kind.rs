//! Which kind of volume a spec asks for. Pure.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, DownwardAPIVolumeSource, EmptyDirVolumeSource, HostPathVolumeSource, ProjectedVolumeSource, SecretVolumeSource,
    Volume,
};

/// A volume's source.
#[derive(Debug, PartialEq)]
pub(super) enum Kind<'a> {
    /// A directory that lives as long as the pod. `None` when the spec names no source at all: this is the default.
    EmptyDir(Option<&'a EmptyDirVolumeSource>),
    /// A path of the host.
    HostPath(&'a HostPathVolumeSource),
    /// A ConfigMap's keys.
    ConfigMap(&'a ConfigMapVolumeSource),
    /// A Secret's keys.
    Secret(&'a SecretVolumeSource),
    /// The pod's metadata.
    DownwardApi(&'a DownwardAPIVolumeSource),
    /// Several of the former and tokens.
    Projected(&'a ProjectedVolumeSource),
    /// Some other kind, by the name of its field in the spec.
    Other(&'static str),
}

/// The kind of a volume.
pub(super) fn of(volume: &Volume) -> Kind<'_> {
    if let Some(source) = &volume.host_path {
        return Kind::HostPath(source);
    }
    if let Some(source) = &volume.config_map {
        return Kind::ConfigMap(source);
    }
    if let Some(source) = &volume.secret {
        return Kind::Secret(source);
    }
    if let Some(source) = &volume.downward_api {
        return Kind::DownwardApi(source);
    }
    if let Some(source) = &volume.projected {
        return Kind::Projected(source);
    }
    let others = [
        ("awsElasticBlockStore", volume.aws_elastic_block_store.is_some()),
        ("azureDisk", volume.azure_disk.is_some()),
        ("azureFile", volume.azure_file.is_some()),
        ("cephfs", volume.cephfs.is_some()),
        ("cinder", volume.cinder.is_some()),
        ("csi", volume.csi.is_some()),
        ("ephemeral", volume.ephemeral.is_some()),
        ("fc", volume.fc.is_some()),
        ("flexVolume", volume.flex_volume.is_some()),
        ("flocker", volume.flocker.is_some()),
        ("gcePersistentDisk", volume.gce_persistent_disk.is_some()),
        ("gitRepo", volume.git_repo.is_some()),
        ("glusterfs", volume.glusterfs.is_some()),
        ("image", volume.image.is_some()),
        ("iscsi", volume.iscsi.is_some()),
        ("nfs", volume.nfs.is_some()),
        ("persistentVolumeClaim", volume.persistent_volume_claim.is_some()),
        ("photonPersistentDisk", volume.photon_persistent_disk.is_some()),
        ("portworxVolume", volume.portworx_volume.is_some()),
        ("quobyte", volume.quobyte.is_some()),
        ("rbd", volume.rbd.is_some()),
        ("scaleIO", volume.scale_io.is_some()),
        ("storageos", volume.storageos.is_some()),
        ("vsphereVolume", volume.vsphere_volume.is_some()),
    ];
    match others.into_iter().find(|(_, set)| *set) {
        Some((name, _)) => Kind::Other(name),
        None => Kind::EmptyDir(volume.empty_dir.as_ref()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_kind_is_told_apart() {
        let volume = |source: serde_json::Value| -> Volume {
            let mut object = json!({"name": "v"});
            object.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
            serde_json::from_value(object).unwrap()
        };
        assert_eq!(of(&volume(json!({}))), Kind::EmptyDir(None));
        assert!(matches!(of(&volume(json!({"emptyDir": {"medium": "Memory"}}))), Kind::EmptyDir(Some(_))));
        assert!(matches!(of(&volume(json!({"hostPath": {"path": "/x"}}))), Kind::HostPath(_)));
        assert!(matches!(of(&volume(json!({"configMap": {"name": "c"}}))), Kind::ConfigMap(_)));
        assert!(matches!(of(&volume(json!({"secret": {"secretName": "s"}}))), Kind::Secret(_)));
        assert!(matches!(of(&volume(json!({"downwardAPI": {}}))), Kind::DownwardApi(_)));
        assert!(matches!(of(&volume(json!({"projected": {"sources": []}}))), Kind::Projected(_)));
        assert_eq!(of(&volume(json!({"csi": {"driver": "d"}}))), Kind::Other("csi"));
        assert_eq!(of(&volume(json!({"nfs": {"server": "s", "path": "/"}}))), Kind::Other("nfs"));
        assert_eq!(of(&volume(json!({"persistentVolumeClaim": {"claimName": "c"}}))), Kind::Other("persistentVolumeClaim"));
        assert_eq!(of(&volume(json!({"image": {"reference": "r"}}))), Kind::Other("image"));
    }
}
