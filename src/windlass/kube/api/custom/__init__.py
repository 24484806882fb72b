"""Custom resources: CustomResourceDefinitions, and the resources that they make.

    definition   what a CustomResourceDefinition may say: defaults and rules
    strategy     how objects of one behave: pruning, defaults, validation
    resources    a served version of one as a `Resource`
    conversion   between versions, by name alone or through a webhook
    establishing the controller that accepts names and serves what it accepted

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""
