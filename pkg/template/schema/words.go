package schema

// What upstream's types do not say. TestAgainstUpstream holds every entry against what upstream does with a document that
// breaks it.

// forbidden are the keys that a kind's type has and upstream refuses all the same.
var forbidden = map[string][]string{
	"ControlPlane": {"name", "updateStrategy", "deleteStrategy"},
	"Workers":      {"bootstrapSpec"},
}

// required are the keys without which upstream refuses a mapping.
var required = map[string][]string{
	"Cluster":            {"kind", "name", "kubernetes", "talos"},
	"ControlPlane":       {"kind"},
	"Workers":            {"kind"},
	"Machine":            {"kind", "name"},
	"KubernetesCluster":  {"version"},
	"TalosCluster":       {"version"},
	"KubernetesManifest": {"mode"},
	"BootstrapSpec":      {"clusterUUID", "snapshot"},
}

func oneOf(keys ...string) object {
	var each list
	for _, key := range keys {
		each = append(each, object{"required": list{key}})
	}

	return object{"anyOf": each}
}

func notBoth(a, b string) object {
	return object{"not": object{"required": list{a, b}}, "errorMessage": "Set " + a + " or " + b + ", not both."}
}

var machinesOrClass = object{"allOf": list{
	object{
		"if":   object{"required": list{"machines"}, "properties": object{"machines": object{"type": "array", "minItems": 1}}},
		"then": object{"properties": object{"machineClass": object{"type": "null", "errorMessage": "Set machines or machineClass, not both."}}},
	},
	object{
		"if":   object{"required": list{"machineClass"}, "properties": object{"machineClass": object{"type": "object"}}},
		"then": object{"properties": object{"kernelArgs": object{"type": "null", "errorMessage": "A machine set of a machine class has no kernelArgs."}}},
	},
}}

// relations are between the keys of a mapping.
var relations = map[string]object{
	"ControlPlane": machinesOrClass,
	"Workers":      machinesOrClass,
	"Patch": {"allOf": list{
		oneOf("file", "inline"), notBoth("file", "inline"),
		object{"if": object{"required": list{"inline"}}, "then": oneOf("name", "idOverride")},
	}},
	"KubernetesManifest": {"allOf": list{
		oneOf("file", "inline"), notBoth("file", "inline"), oneOf("file", "name"),
	}},
	"KubernetesHealthCheck": {"allOf": list{
		oneOf("file", "job"), notBoth("file", "job"), oneOf("name", "idOverride"),
	}},
}

// A version as upstream reads it: the parts after the major one can be left out.
const version = `[0-9]+(\.[0-9]+(\.[0-9]+([-+][0-9A-Za-z.+-]+)?)?)?$`

// values narrow down what a key or a type of text can be.
var values = map[string]object{
	// Letters of any script: ASCII without the others. \p{L} is not a pattern in every editor.
	"Cluster.name": {
		"pattern": "^[^\\s!-,./:-@\\[-\\^`{-~]+$", "patternErrorMessage": "A cluster's name has letters, digits, dashes and underscores only.",
	},
	"KubernetesCluster.version": {
		"pattern": `^\s*v?` + version, "patternErrorMessage": "A Kubernetes version looks like v1.34.3.",
	},
	"TalosCluster.version": {
		"pattern": `^v` + version, "patternErrorMessage": "A Talos version looks like v1.12.0, with the v.",
	},
	"MachineID": {
		"pattern": `^(urn:uuid:)?\{?[0-9A-Fa-f]{8}-?([0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}\}?$`, "patternErrorMessage": "A machine is named by its ID in Omni, a UUID.",
	},
	"BootstrapSpec.clusterUUID": {"minLength": 1},
	"BootstrapSpec.snapshot":    {"minLength": 1},
}

// descriptions are what an editor shows of a key, by the type that declares it.
var descriptions = map[string]string{
	"Meta.kind":               "What this document describes: Cluster, ControlPlane, Workers or Machine.",
	"Descriptors.labels":      "Labels of the resource in Omni. Those that begin with omni.sidero.dev/ are Omni's own.",
	"Descriptors.annotations": "Annotations of the resource in Omni. Those that begin with omni-syncd/ (on a Cluster: suspend, sync, prune, deletion, handover) tell omni-syncd how to treat it.",

	"Cluster.systemExtensions":               "Talos system extensions for every machine of the cluster. An empty list removes all; leave it out to change none.",
	"Cluster.name":                           "The cluster's name in Omni. Another name is another cluster: this one would be deleted.",
	"Cluster.kubernetes":                     "Kubernetes: its version, and what Omni deploys into the cluster.",
	"Cluster.talos":                          "Talos: its version.",
	"Cluster.features":                       "Features of Omni for this cluster.",
	"Cluster.patches":                        "Talos config patches for every machine of the cluster, in this order. A patch inserted in front of others renames those after it.",
	"Cluster.kernelArgs":                     "Extra kernel arguments for every machine of the cluster. A machine set and a machine can have their own instead.",
	"Features.diskEncryption":                "Encrypt the disks with keys that Omni keeps. It cannot be changed later; Talos 1.5 or newer.",
	"Features.enableWorkloadProxy":           "Let Omni expose services of the cluster (workload proxy).",
	"Features.useEmbeddedDiscoveryService":   "Use the discovery service inside Omni instead of the public one.",
	"Features.disablePublicDiscoveryService": "Do not use the public discovery service. Omni 1.10 or newer, and a cluster that was made with Talos 1.14 or newer.",
	"Features.enableNodeAuditSkip":           "Let the annotation omni.sidero.dev/node-audit-skip on a Kubernetes node exempt it from Omni's audit of nodes.",
	"Features.backupConfiguration":           "Backups of etcd.",
	"BackupConfiguration.interval":           "How often etcd is backed up, like 1h. Without it there are no backups.",
	"KubernetesCluster.version":              "The Kubernetes version, like v1.34.3. A higher one upgrades the cluster.",
	"KubernetesCluster.manifests":            "Kubernetes manifests that Omni keeps in the cluster.",
	"KubernetesCluster.healthchecks":         "Jobs that must succeed before Omni goes on with an upgrade.",
	"TalosCluster.version":                   "The Talos version, with the v: v1.12.0. A higher one upgrades the machines one after the other.",

	"MachineSet.systemExtensions": "Talos system extensions for the machines of this set, instead of the cluster's.",
	"MachineSet.name":             "The name of this set of workers; needed if there is more than one.",
	"MachineSet.bootstrapSpec":    "Restore etcd from a backup when the cluster is created. It cannot be changed later.",
	"MachineSet.machines":         "The machines of this set, by their IDs in Omni. Not together with machineClass.",
	"MachineSet.machineClass":     "Take the machines from a machine class. Not together with machines.",
	"MachineSet.updateStrategy":   "How changes of the configuration reach the machines of this set.",
	"MachineSet.deleteStrategy":   "How machines leave this set.",
	"MachineSet.upgradeStrategy":  "How the machines of this set are upgraded.",
	"MachineSet.patches":          "Talos config patches for the machines of this set, after those of the cluster.",
	"MachineSet.kernelArgs":       "Extra kernel arguments for the machines of this set, instead of the cluster's. Not with a machine class.",

	"BootstrapSpec.clusterUUID":                  "The UUID of the cluster whose backup is restored.",
	"BootstrapSpec.snapshot":                     "The file name of the snapshot.",
	"MachineClassConfig.name":                    "The name of the machine class.",
	"MachineClassConfig.size":                    "How many machines to take, or unlimited for all that match.",
	"UpdateStrategyConfig.type":                  "Rolling: some at a time. Unset: all at once.",
	"UpdateStrategyConfig.rolling":               "Settings of the Rolling strategy.",
	"RollingUpdateStrategyConfig.maxParallelism": "How many machines at a time.",

	"Machine.systemExtensions":    "Talos system extensions for this machine, instead of those of its set.",
	"Machine.name":                "The machine's ID in Omni. It must also stand in the machines of a ControlPlane or Workers.",
	"Machine.locked":              "Lock the machine in Omni: it gets no changes and no upgrades. Not for control plane machines.",
	"Machine.install":             "Where Talos is installed.",
	"Machine.patches":             "Talos config patches for this machine, after those of its set.",
	"Machine.kernelArgs":          "Extra kernel arguments for this machine, instead of those of its set.",
	"MachineInstall.disk":         "The disk to install Talos on, like /dev/nvme0n1.",
	"MachineInstall.diskSelector": "What the disk to install Talos on has to be: an expression (CEL) that is true of it, like disk.transport == 'nvme'. In place of disk; Omni 1.11 or newer.",

	"Patch.name":       "The patch's name, part of its ID in Omni. A patch with file is named after the file if it has none.",
	"Patch.idOverride": "The whole ID of the patch in Omni, instead of one made from its place and name.",
	"Patch.file":       "A file with the patch, relative to this file. Not together with inline.",
	"Patch.inline":     "The patch itself: a mapping, a list of documents, or its text. Not together with file.",

	"KubernetesManifest.inline": "The manifests themselves: a mapping, a list of documents, or their text. Not together with file.",
	"KubernetesManifest.name":   "The name of this group of manifests. One with file is named after the file if it has none.",
	"KubernetesManifest.file":   "A file with the manifests, relative to this file. Not together with inline.",
	"KubernetesManifest.mode":   "full: Omni keeps them as they are here. one-time: Omni creates them once and leaves them alone.",

	"KubernetesHealthCheck.idOverride": "The whole ID of the health check in Omni, instead of one made from its name.",
	"KubernetesHealthCheck.name":       "The name of the health check.",
	"KubernetesHealthCheck.job":        "The Kubernetes Job that checks. Not together with file.",
	"KubernetesHealthCheck.file":       "A file with the Job, relative to this file. Not together with job.",
	"KubernetesHealthCheck.interval":   "How often to check again while an upgrade waits, like 30s.",
}
