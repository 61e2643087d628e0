//! Feature gates: which there are in Kubernetes 1.36, and what they are when nobody sets them.
//!
//! Nothing here is switched by them yet, but a name that doesn't exist or a gate that can't be moved is a mistake upstream too
//! (k8s.io/component-base/featuregate). Source: what pkg/features, k8s.io/apiserver/pkg/features and k8s.io/component-base register in
//! a kubelet of version 1.36.3.

use serde_json::Value;

use super::nearest::nearest;
use super::view::View;

/// How settled a feature is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Alpha,
    Beta,
    Ga,
    Deprecated,
}

use Stage::{Alpha, Beta, Deprecated, Ga};

/// Gates that have all but the name in common.
struct Group {
    stage: Stage,
    default: bool,
    /// Can't be set to anything but the default.
    locked: bool,
    /// With blanks between them: one text is a tenth of the size of a table.
    names: &'static str,
}

/// Set all alpha or beta gates that are not set by themselves.
const ALL: [(&str, Stage); 2] = [("AllAlpha", Alpha), ("AllBeta", Beta)];

fn find(name: &str) -> Option<&'static Group> {
    GROUPS.iter().find(|group| group.names.split(' ').any(|known| known == name))
}

/// Whether a feature is on.
pub(super) fn is_on(config: &View, name: &str) -> bool {
    let set = |name: &str| config.value("featureGates").and_then(|gates| gates.get(name)).and_then(Value::as_bool);
    let Some(group) = find(name) else { return false };
    let by_stage = || ALL.iter().find(|(_, stage)| *stage == group.stage).and_then(|(all, _)| set(all));
    set(name).or_else(|| by_stage().filter(|_| !group.locked)).unwrap_or(group.default)
}

/// Adds one line for each gate that can't be set so.
pub(super) fn check(config: &View, found: &mut Vec<String>) {
    for (name, value) in config.value("featureGates").and_then(Value::as_object).into_iter().flatten() {
        let known = || GROUPS.iter().flat_map(|group| group.names.split(' ')).chain(ALL.iter().map(|(name, _)| *name));
        match find(name) {
            Some(group) if group.locked && value.as_bool() != Some(group.default) => {
                found.push(format!("featureGates: cannot set feature gate {name} to {value}, feature is locked to {}", group.default));
            }
            None if !ALL.iter().any(|(all, _)| all == name) => found.push(match nearest(name, known()) {
                Some(close) => format!("featureGates: unrecognized feature gate: {name}; did you mean {close}?"),
                None => format!("featureGates: unrecognized feature gate: {name}"),
            }),
            _ => {}
        }
    }
}

/// The warning about gates that will go away, if any is set.
pub(super) fn warning(config: &View) -> Option<String> {
    let set = config.value("featureGates").and_then(Value::as_object).into_iter().flatten();
    let ending = set.filter(|(name, _)| find(name).is_some_and(|group| matches!(group.stage, Ga | Deprecated)));
    let names: Vec<&str> = ending.map(|(name, _)| name.as_str()).collect();
    (!names.is_empty()).then(|| format!("feature gates that will be removed in a future release: {}", names.join(", ")))
}

static GROUPS: &[Group] = &[
    Group {
        stage: Alpha,
        default: false,
        locked: false,
        names: "APIServingWithRoutine AllowUnsafeMalformedObjectDeletion CBORServingAndStorage CPUManagerPolicyAlphaOptions CRIListStreaming \
         CSIVolumeHealth ClientsAllowCBOR ClientsPreferCBOR CloudControllerManagerWatchBasedRoutesReconciliation \
         CloudControllerManagerWebhook ContainerStopSignals CrossNamespaceVolumeDataSource DRAListTypeAttributes \
         DRANodeAllocatableResources DRAResourcePoolStatus DRAWorkloadResourceClaims EventedPLEG GangScheduling GenericWorkload \
         HPAScaleToZero ImageVolumeWithDigest InPlacePodVerticalScalingExclusiveCPUs InPlacePodVerticalScalingExclusiveMemory \
         KubeletInUserNamespace LoggingAlphaOptions ManifestBasedAdmissionControlConfig MemoryQoS MutablePVNodeAffinity \
         NativeHistograms PersistentVolumeClaimUnusedSinceTime PodAndContainerStatsFromCRI PodLevelResourceManagers \
         PodLogsQuerySplitStreams PodsAPI QOSReserved ReduceDefaultCrashLoopBackOffDecay RuntimeClassInImageCriApi ShardedListAndWatch \
         StorageCapacityScoring StorageVersionAPI TaintTolerationComparisonOperators TopologyAwareWorkloadScheduling \
         TopologyManagerPolicyAlphaOptions UserNamespacesHostNetworkSupport VolumeLimitScaling WindowsCPUAndMemoryAffinity \
         WorkloadAwarePreemption WorkloadWithJob",
    },
    Group {
        stage: Beta,
        default: false,
        locked: false,
        names: "ClusterTrustBundle ClusterTrustBundleProjection ConcurrentWatchObjectDecode CoordinatedLeaderElection DRADeviceTaintRules \
         LocalStorageCapacityIsolationFSQuotaMonitoring MaxUnavailableStatefulSet PodCertificateRequest SELinuxMount \
         SchedulerAsyncAPICalls StorageVersionMigrator",
    },
    Group {
        stage: Beta,
        default: true,
        locked: false,
        names: "APIResponseCompression APIServerIdentity AllowParsingUserUIDFromCertAuth AtomicFIFO \
         AuthorizePodWebsocketUpgradeCreatePermission CPUManagerPolicyBetaOptions CRDObservedGenerationTracking \
         ClearingNominatedNodeNameAfterBinding ClientsAllowCARotation ClientsAllowTLSCacheGC ComponentFlagz ComponentStatusz \
         ConstrainedImpersonation ContainerCheckpoint ContainerRestartRules ContextualLogging DRAConsumableCapacity \
         DRADeviceBindingConditions DRADeviceTaints DRAExtendedResource DRAPartitionableDevices DRAResourceClaimDeviceStatus \
         DRAResourceClaimGranularStatusAuthorization DRASchedulerFilterTimeout DeclarativeValidationBeta \
         DeploymentReplicaSetTerminatingReplicas DetectCacheInconsistency EnvFiles ExtendWebSocketsToKubelet GracefulNodeShutdown \
         GracefulNodeShutdownBasedOnPodPriority HPAConfigurableTolerance HostnameOverride InOrderInformersBatchProcess \
         InPlacePodLevelResourcesVerticalScaling InPlacePodVerticalScalingInitContainers KubeletCrashLoopBackOffMax \
         KubeletEnsureSecretPulledImages KubeletSeparateDiskGC KubeletServiceAccountTokenForCredentialProviders ListFromCacheSnapshot \
         LoggingBetaOptions MatchLabelKeysInPodTopologySpread MatchLabelKeysInPodTopologySpreadSelectorMerge \
         MutablePodResourcesForSuspendedJobs MutableSchedulingDirectivesForSuspendedJobs NodeDeclaredFeatures \
         NominatedNodeNameForExpectation OpenAPIEnums OpportunisticBatching PLEGOnDemandRelist PodDeletionCost PodLevelResources \
         PodReadyToStartContainersCondition PodTopologyLabelsAdmission PortForwardWebsockets PreventStaticPodAPIReferences \
         RelaxedServiceNameValidation ReloadKubeletClientCAFile ReloadKubeletServerCertificateFile RemoteRequestHeaderUID \
         ResourceHealthStatus ResourceHealthStatusMessage RestartAllContainersOnContainerExits RotateKubeletServerCertificate \
         SchedulerAsyncPreemption SchedulerPopFromBackoffQ ServiceAccountNodeAudienceRestriction SizeBasedListCostEstimate \
         StaleControllerConsistencyDaemonSet StaleControllerConsistencyJob StaleControllerConsistencyReplicaSet \
         StaleControllerConsistencyStatefulSet StatefulSetSemanticRevisionComparison StorageVersionHash StrictIPCIDRValidation \
         StructuredAuthenticationConfigurationEgressSelector StructuredAuthenticationConfigurationJWKSMetrics \
         TokenRequestServiceAccountUIDValidation TopologyManagerPolicyBetaOptions TranslateStreamCloseWebsocketRequests \
         UnauthenticatedHTTP2DOSMitigation UnknownVersionInteroperabilityProxy UnlockWhileProcessingFIFO \
         WatchCacheInitializationPostStartHook WatchList WatchListClient WindowsGracefulNodeShutdown",
    },
    Group {
        stage: Ga,
        default: true,
        locked: false,
        names: "AllowServiceExternalIPs CustomCPUCFSQuotaPeriod DRAPrioritizedList InformerResourceVersion MutatingAdmissionPolicy",
    },
    Group {
        stage: Ga,
        default: true,
        locked: true,
        names: "APIServerTracing AnonymousAuthConfigurableEndpoints AnyVolumeDataSource AuthorizeNodeWithSelectors AuthorizeWithSelectors \
         BtreeWatchCache CPUManagerPolicyOptions CRDValidationRatcheting CSIServiceAccountTokenSecrets ConsistentListFromCache \
         CustomResourceFieldSelectors DRAAdminAccess DeclarativeValidation DisableAllocatorDualWrite DynamicResourceAllocation \
         ExecProbeTimeout ExternalServiceAccountTokenSigner ImageMaximumGCAge ImageVolume InOrderInformers InPlacePodVerticalScaling \
         JobBackoffLimitPerIndex JobManagedBy JobPodReplacementPolicy JobSuccessPolicy KubeletCgroupDriverFromCRI \
         KubeletFineGrainedAuthz KubeletPSI KubeletPodResourcesDynamicResources KubeletPodResourcesGet KubeletTracing \
         LogarithmicScaleDown MatchLabelKeysInPodAffinity MultiCIDRServiceAllocator MutableCSINodeAllocatableCount NFTablesProxyMode \
         NodeInclusionPolicyInPodTopologySpread NodeLogQuery NodeSwap OrderedNamespaceDeletion PodLifecycleSleepAction \
         PodLifecycleSleepActionAllowZero PodObservedGenerationTracking PodSchedulingReadiness PreferSameTrafficDistribution \
         ProcMountType RecoverVolumeExpansionFailure RecursiveReadOnlyMounts RelaxedDNSSearchValidation \
         RelaxedEnvironmentVariableValidation ResilientWatchCacheInitialization RetryGenerateName SELinuxChangePolicy \
         SELinuxMountReadWriteOncePod SchedulerQueueingHints SeparateTaintEvictionController ServiceAccountTokenJTI \
         ServiceAccountTokenNodeBinding ServiceAccountTokenNodeBindingValidation ServiceAccountTokenPodNodeInfo SidecarContainers \
         StreamingCollectionEncodingToJSON StreamingCollectionEncodingToProtobuf StructuredAuthenticationConfiguration \
         SupplementalGroupsPolicy SystemdWatchdog TopologyManagerPolicyOptions UserNamespacesSupport VolumeAttributesClass WinDSR \
         WinOverlay",
    },
    Group {
        stage: Deprecated,
        default: false,
        locked: false,
        names: "AllowDNSOnlyNodeCSR AllowInsecureKubeletCertificateSigningRequests ChangeContainerStatusOnKubeletRestart \
         DeclarativeValidationTakeover KMSv1 KubeletRegistrationGetOnExistsOnly WindowsHostNetwork",
    },
    Group {
        stage: Deprecated,
        default: false,
        locked: true,
        names: "AllowOverwriteTerminationGracePeriodSeconds GitRepoVolumeDriver SeparateCacheWatchRPC",
    },
    Group {
        stage: Deprecated,
        default: true,
        locked: false,
        names: "DisableCPUQuotaWithExclusiveCPUs KubeletPodResourcesListUseActivePods ServiceCIDRStatusFieldWiping StorageNamespaceIndex",
    },
    Group { stage: Deprecated, default: true, locked: true, names: "AggregatedDiscoveryRemoveBetaType DisableNodeKubeProxyVersion" },
];

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    fn with(gates: Value) -> Map<String, Value> {
        Map::from_iter([("featureGates".to_owned(), gates)])
    }

    #[test]
    fn the_table_has_every_name_once() {
        let mut names: Vec<&str> = GROUPS.iter().flat_map(|group| group.names.split(' ')).collect();
        assert!(names.iter().all(|name| !name.is_empty()));
        names.sort_unstable();
        assert_eq!(names.len(), 239);
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn strangers_and_locked_gates_are_refused() {
        let table = [
            (json!({"ImageVolume": true, "AllAlpha": true, "MemoryQoS": true, "NodeLogQuery": true}), vec![]),
            (json!({"ImageVolum": true}), vec!["featureGates: unrecognized feature gate: ImageVolum; did you mean ImageVolume?"]),
            (json!({"Zzzzzz": true}), vec!["featureGates: unrecognized feature gate: Zzzzzz"]),
            (json!({"NodeSwap": false}), vec!["featureGates: cannot set feature gate NodeSwap to false, feature is locked to true"]),
        ];
        for (gates, want) in table {
            let config = with(gates);
            let mut found = Vec::new();
            check(&View(&config), &mut found);
            assert_eq!(found, want);
        }
    }

    #[test]
    fn what_is_on() {
        let table = [
            (json!({}), "MemoryQoS", false),
            (json!({"MemoryQoS": true}), "MemoryQoS", true),
            (json!({"AllAlpha": true}), "MemoryQoS", true),
            (json!({"AllAlpha": true, "MemoryQoS": false}), "MemoryQoS", false),
            (json!({"AllBeta": false}), "NodeSwap", true),
            (json!({}), "NoSuchGate", false),
        ];
        for (gates, name, want) in table {
            let config = with(gates);
            assert_eq!(is_on(&View(&config), name), want, "{name} in {config:?}");
        }
        let config = with(json!({"NodeSwap": true, "MemoryQoS": true}));
        assert_eq!(warning(&View(&config)).as_deref(), Some("feature gates that will be removed in a future release: NodeSwap"));
    }
}
