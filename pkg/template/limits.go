package template

// Everything that comes out of a repository has a bound. Over one, there is a problem that says so.
const (
	// MaxTemplateSize is the size in bytes of a file that may hold a template or manifests. Larger YAML files (bundles
	// of CRDs, say) are left alone unless they look like a template.
	MaxTemplateSize = 1 << 20

	// MaxReferenceSize is the size in bytes of a file that a template refers to by `file:`.
	MaxReferenceSize = 4 << 20

	// MaxReferencePath is the length in bytes of the path of such a file, from the root of the revision.
	MaxReferencePath = 1024

	// MaxInlineSize is the size in bytes of all files a single template refers to. Omni takes messages of up to 32 MiB.
	MaxInlineSize = 32 << 20

	// MaxFiles is the number of files and folders looked at in one revision.
	MaxFiles = 100_000

	// MaxFolderDepth is the number of folders inside each other, below the root of the source.
	MaxFolderDepth = 64

	// MaxDocuments is the number of YAML documents in a file.
	MaxDocuments = 1000

	// MaxNodes is the number of YAML nodes of a document once its aliases are expanded.
	// Decoding expands them, so a few lines of aliases to aliases could ask for all the memory there is.
	MaxNodes = 250_000

	// MaxKeySize is the length in bytes of a key. The longest that means anything is a label of Kubernetes, with 317.
	MaxKeySize = 512

	// MaxDepth is the number of YAML mappings and sequences inside each other.
	MaxDepth = 100
)
