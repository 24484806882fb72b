"""What every kind of cluster needs, whatever its vocabulary: certificates, their signing, membership."""
