"""Models moved to a newer operator set, for element types that theirs does not have."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from prunec.compiler.errors import ModelError, first_line
from prunec.compiler.walk import bodies, nodes
from prunec.frontends.naming import name_everything
from prunec.frontends.older import REFUSED, moved
from prunec.frontends.skeleton import describe, frame

LARGE_BYTES = 1024  # of what the converter does not look into
IR_VERSIONS = {13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10}


def raised(model: ir.Model, version: int) -> ir.Model:
    """The model in operator set `version` of the default domain, or as it came where it is newer.

    By the converter of onnx, which sees every operator's place and small constants but no weights.
    Raises ModelError where it can't, naming why: then the model has to be exported anew.
    """
    present = model.opset_imports.get("", 1)
    if present >= version:
        return model
    if any(bodies(node) for node in nodes(model.graph)) or model.functions:
        raise ModelError(
            f"operator set {present} has to become {version} for these element types, and models "
            "with control flow or functions can't be converted; export it with that operator set"
        )
    proto = frame(model)
    tensors: dict[str, ir.TensorProtocol] = {}
    lifted = []
    for index, (name, value) in enumerate(model.graph.initializers.items()):
        assert value.const_value is not None, name
        if value.const_value.nbytes > LARGE_BYTES:
            proto.graph.initializer.append(describe(name, value.const_value))
            tensors[name] = value.const_value
            lifted.append(index)
        else:
            contents = ir.serde.serialize_tensor(value.const_value)
            contents.name = name
            proto.graph.initializer.append(contents)
    try:
        done = moved(proto, lifted, version)
    except REFUSED as error:
        raise ModelError(
            f"operator set {present} has to become {version} for these element types, and onnx "
            f"can't convert it: {first_line(error)}; export it with that operator set"
        ) from error
    return _filled(done, tensors, model, version)


def _filled(
    proto: onnx.ModelProto, tensors: dict[str, ir.TensorProtocol], model: ir.Model, version: int
) -> ir.Model:
    """The proto as a model again, with the weights that it was converted without."""
    for tensor in proto.graph.initializer:
        if tensor.name in tensors:
            tensor.raw_data = b""
    newest = max(IR_VERSIONS)
    proto.ir_version = max(proto.ir_version, IR_VERSIONS[min(max(version, 13), newest)])
    out = ir.serde.deserialize_model(proto)
    name_everything(out)
    for name, tensor in tensors.items():
        out.graph.initializers[name].const_value = tensor
    out.graph.meta.update(model.graph.meta)
    return out
