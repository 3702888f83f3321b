package authority

// File is the authority of a standalone installation.
type File struct{}
