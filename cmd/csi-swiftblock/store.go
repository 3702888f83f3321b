package main

import (
	"fmt"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// openStore is the Swift account that the environment names.
func openStore() (*swift.Client, error) {
	credentials, err := credentialsFromEnvironment()
	if err != nil {
		return nil, fmt.Errorf("%w: set ST_AUTH, ST_USER and ST_KEY, or OS_* variables, or OS_CLOUD with a clouds.yaml", err)
	}
	return swift.New(credentials, swift.Options{Reload: credentialsFromEnvironment})
}

func credentialsFromEnvironment() (swift.Credentials, error) { return swift.LoadCredentials("", "") }
