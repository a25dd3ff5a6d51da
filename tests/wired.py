"""Two nodes of a namespace tree, joined by a wire: what tests of paths stand on without a lab."""

from jepsen_blk.lab.local.namespaces import LocalNode, Namespaces

NEAR, FAR = "10.1.0.2", "10.1.0.1"


async def wired_nodes(namespaces: Namespaces) -> tuple[LocalNode, LocalNode]:
    """Make the nodes x, which has the address NEAR, and storage, which has FAR."""
    near, far = await namespaces.node("x"), await namespaces.node("storage")
    await near.run(["ip", "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", "storage"])
    for node, address in ((near, NEAR), (far, FAR)):
        await node.run(["ip", "addr", "add", f"{address}/24", "dev", "wire"])
        await node.run(["ip", "link", "set", "wire", "up"])
    return near, far
