// Package embedded is an Omni in the process: real gRPC on loopback, real request signatures, the behaviour of Omni v1.9.3 as far as a
// client can see it, and faults on request. The demo serves it, tests and benchmarks run against it, and anyone can point omnictl at it.
// It sits at the end of the flow source → template → render → diff → sync → omni, in the place of the real server; nothing of the
// product imports it but the demo.
//
//	server, err := embedded.New(embedded.Config{HealthyMachines: true})
//	...
//	go server.Run(ctx)
//	os.Setenv("OMNI_ENDPOINT", server.Endpoint())
//	os.Setenv("OMNI_SERVICE_ACCOUNT_KEY", server.ServiceAccountKey(embedded.AccountOperator))
//
// # How it is built
//
//	gRPC ─ rpc.go: count, authenticate, faults, OnWrite
//	  State service ─ watch.go ─ userstate.go: access.go, rules*.go ─ store.go ◀─ controllers.go, view.go, lifecycle.go, ...
//	  ManagementService ─ management.go
//
// The State service and the in-memory state are COSI's own. The controllers are one loop over a view of each cluster; everything in
// them that takes time takes a number of Config.Step.
//
// test/conformance holds it to the real one: the same tests, run against both.
//
// # What is reproduced
//
//   - Signatures: verified on every call, with Omni's five minutes for a timestamp either way (and so with its replays inside of them).
//     Keys are found by fingerprint.
//   - Roles None, Reader, Operator and Admin by type and verb; accounts limited to some clusters.
//   - Every error code of the State service, with COSI's client's view of it. A client's word is taken for whom it writes as: an
//     owner keeps out mistakes, nobody else.
//   - Refusals of Cluster, MachineSet, MachineSetNode, ExtensionsConfiguration, MachineClass, ConfigPatch, KernelArgs,
//     KubernetesManifestGroup, KubernetesHealthCheck, EtcdManualBackup, InfraMachineConfig, MachineRequestSet,
//     InstallationMediaConfig and NodeForceDestroyRequest, and the bounds of IDs, labels and annotations. With Config.Version they are
//     those of 1.10 or 1.11: patches, machines without an installation, bootstrapSpec and public discovery (releases.go, rules_*.go).
//   - Of 1.11, MachineInstallDiskConfig, and the upgrade that makes one of a patch of before (migrations.go).
//   - Locks of clusters and machines.
//   - The life of a cluster: finalizers that take it from version 1 to 14, system patches with an owner, initial configurations and
//     machine class nodes without one, statuses on the way up, upgrades, changed configurations (Reconfiguring), machines that join,
//     leave and are switched off. Config.Lag has the statuses follow later, each with its own delay.
//   - Teardown: the cascade in Omni's order, held by machines that are off and by finalizers a test sets through State; what was torn
//     down is destroyed by the server. A machine set and a machine take along the patches and extensions that have their label. A
//     machine set that left its class cannot end, as in Omni, until someone takes off the finalizer MachineSetNodeController.
//   - Watches: bootstrap, bookmarks (8 bytes; garbage, from the future, compacted), selectors, no tailEvents.
//   - Kubeconfig, Talosconfig, KubernetesUpgradePreChecks.
//   - The catalogue of Talos and Kubernetes versions and of extensions: a small one. Resource definitions, for omnictl get.
//
// # What is not
//
//   - No Talos, no Kubernetes, no etcd: machines are nothing but a MachineStatus, a kubeconfig leads nowhere.
//   - Readiness does not flap while a cluster comes up. All machines of a set get a changed configuration at once, and all machines of
//     a Talos upgrade change at once. Locked machines do not wait with it.
//   - A cluster without a ready control plane is never ready; a real Omni says so for a moment when only empty workers exist.
//   - Some types that Omni makes of its own are missing (ClusterMachineConfig, Link, LoadBalancerStatus, ...), and so are KernelArgs and
//     MachineLabels that it derives from a machine. MachineLabels that a user writes do label the machine.
//   - A position in a watch counts per resource type, a real one across all of them. So a bookmark from the future waits for ever, where
//     etcd would go on once it got there. A restore keeps no history: an older bookmark is compacted.
//   - No access policies as resources (Account.Clusters stands in for them), no users, infrastructure providers, OIDC or SAML; of the
//     bootstrap from a backup only the cluster's UUID is checked; of a health check's job only that it is an object; of what an
//     infrastructure provider takes, of platforms, overlays and schematics nothing.
//   - A node of a machine class that a user deletes cannot be created again while its machine is still running.
//   - A patch that has belonged to nothing for 30 days stays; Omni removes it.
//   - Of newer releases than v1.9.3 nothing else: none of their other resources and fields, and no Talos 1.14. A disk that is picked
//     has no effect on a machine.
//   - Break-glass configs are off, which in Omni is a setting.
//   - The other calls of ManagementService answer Unimplemented; the Resource, Auth, OIDC and Talos services are not there.
package embedded
