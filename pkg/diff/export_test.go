package diff

// For the tests.
var (
	WithoutReboot = withoutReboot
	Prose         = prose
	Code          = code
	Tag           = tag
	Block         = block
)
