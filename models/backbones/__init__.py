"""Image networks: ResNet, EfficientNet, ViT and DeiT, and MoCo's encoder."""
